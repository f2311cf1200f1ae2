"""Both ledgers' journals after a few windows, and receipts of every kind of payment in them.

======  =============================================================================================
window  its payments
======  =============================================================================================
1       the issuer provides CNY in Hong Kong; all settle
2       ``single``, two of a ``batch``, ``exchange`` (with FX), ``back`` (from Hong Kong); all settle
3       ``settled``; ``carried`` is carried out, ``rejected`` has no payee, ``cancelled`` is cancelled
4       ``carried`` settles
5       open: ``waiting``
======  =============================================================================================

Besides, ``inside``, ``between`` and ``redeemed`` stay in Shanghai (on one participant's book, between two with a fee,
to the issuer), ``converted`` stays in Hong Kong (with FX), and ``refused`` is refused.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from ledger import checkpoint, genesis, journal, logs
from ledger.checkpoint import Checkpoint, Note
from ledger.machine import Machine
from ledger.reader import Reader
from ledger.receipts import Source
from ledger.runtime import ManualRuntime
from ledger.store import MemoryStore
from ledger.tiles import Tiles
from settlement import payment_receipts
from settlement.book import PEER
from settlement.interpreter import Settlement
from settlement.payment_receipts import Plan
from settlement.statements import LEDGERS
from tests.settlement_fixture import NETWORK, Node, World, genesis_of, key_of, money, uetr_of

COSIGNED_AT_S = 1_750_300_000
PAIR = {ledger: genesis_of(ledger) for ledger in LEDGERS}


def journaled(node: Node) -> tuple[MemoryStore, Machine]:
    """Write a node's journal: its messages once more, into blocks that its key seals."""
    document = genesis_of(node.ledger)
    machine = Machine(document, Settlement(document), hash_key=bytes(16))
    store = MemoryStore(genesis.encode(document), runtime=ManualRuntime())
    for timestamp_ns, messages in node.blocks:
        draft = machine.apply([machine.admit(message, at_ns=None) for message in messages], timestamp_ns)
        block = journal.seal(draft, machine.grow(draft), key_of(f"NODE-{node.ledger}"), ledger=node.ledger)
        machine.seal(block.hash)
        store.append(block)
    return store, machine


@dataclass
class Journals:
    """The journals of a world, and its payments by name."""

    world: World
    payments: dict[str, dict[str, Any]]
    stores: dict[str, MemoryStore]
    machines: dict[str, Machine]
    sources: dict[str, Source]

    @classmethod
    def of(cls, world: World, payments: dict[str, dict[str, Any]]) -> Journals:
        """Write both journals."""
        stores, machines, sources = {}, {}, {}
        for ledger in LEDGERS:
            store, machine = journaled(world.node(ledger))
            tiles = Tiles.open(store, frontier=machine.frontier)
            stores[ledger], machines[ledger] = store, machine
            sources[ledger] = Source(PAIR[ledger], store, Reader(store), tiles, key_of(f"NODE-{ledger}"))
        return cls(world, payments, stores, machines, sources)

    def note(self, ledger: str, *, cosigned: bool = True, size: int | None = None) -> bytes:
        """Give a checkpoint of a ledger, by default of its whole journal."""
        tiles = self.sources[ledger].tiles
        size = self.machines[ledger].frontier.size if size is None else size
        name = logs.origin(NETWORK, ledger)
        data = logs.sign_checkpoint(Checkpoint(name, size, tiles.root(size)), key_of(f"NODE-{ledger}"))
        return cosigned_note(data, ledger) if cosigned else data

    def plan(self, ledger: str, who: str, name: str, *, payer: str = "") -> Plan:
        """Plan a payment's receipt for a party."""
        node = self.world.node(ledger)
        return payment_receipts.plan_receipt(node.machine, node.book, node.view(who, self.payments[name], payer=payer))

    def receipt(self, ledger: str, who: str, name: str, *, payer: str = "", cosigned: bool = True) -> bytes:
        """Make a payment's receipt for a party."""
        plan = self.plan(ledger, who, name, payer=payer)
        note = self.note(ledger, cosigned=cosigned)
        return payment_receipts.make(self.sources[ledger], plan, note, self.machines[ledger])


def cosigned_note(data: bytes, ledger: str) -> bytes:
    """Add the other node's cosignature to a checkpoint of ``ledger``."""
    note, peer = checkpoint.decode_note(data), PEER[ledger]
    name = logs.origin(NETWORK, peer)
    line = checkpoint.cosign(note.text, name=name, private_key=key_of(f"NODE-{peer}"), time_s=COSIGNED_AT_S)
    return checkpoint.encode_note(Note(note.text, (*note.signatures, line)))


@functools.cache
def journals() -> Journals:
    """Make the journals once for all tests; nobody changes them."""
    world = World.everywhere()
    world.quote(sell="HKD", maximum=1_000_000, buy="CNY", rate="1.08430000")
    fx = {"creditor_asset": "HKD", "quote": uetr_of("quote")}
    paid = {
        "inside": world.payment("SH/WALLET.ann", "SH/WALLET.ben", 11_00),
        "between": world.payment("SH/WALLET.ann", "SH/WALLET.cai", 12_00, fee=money(5)),
        "refused": world.payment("SH/WALLET.ann", "SH/WALLET.ben", 99_999_999_00),
        "redeemed": world.payment("SH/WALLET.ann", "SH/ISSUE", 13_00),
        "converted": world.payment("HK/WALLET.dan", "HK/WALLET.eva", 14_00, **fx),
        "single": world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00, purpose="GDDS", reference="invoice 7"),
        "first": world.payment("SH/WALLET.cai", "HK/WALLET.eva", 1_00),
        "batch": world.payment("SH/WALLET.cai", "HK/WALLET.dan", 2_00),
        "exchange": world.payment("SH/WALLET.ben", "HK/WALLET.eva", 100_00, **fx),
        "back": world.payment("HK/WALLET.dan", "SH/WALLET.ann", 3_00),
    }
    for name in ("inside", "between", "refused", "redeemed", "single"):
        world.sh.pay("ann", paid[name])
    world.sh.pay("cai", paid["first"], paid["batch"])
    world.sh.pay("ben", paid["exchange"])
    for name in ("converted", "back"):
        world.hk.pay("dan", paid[name])
    _settled(world)
    paid["settled"] = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00)
    paid["carried"] = world.payment("SH/WALLET.ann", "HK/WALLET.eva", 6_00)
    paid["cancelled"] = world.payment("SH/WALLET.ann", "HK/WALLET.eva", 7_00)
    nobody = world.payment("SH/WALLET.ben", "HK/WALLET.eva", 8_00)
    paid["rejected"] = nobody | {"creditor": world.address("HK/SETTLE.GAMMA")}
    for name in ("settled", "carried", "cancelled"):
        world.sh.pay("ann", paid[name])
    world.sh.pay("ben", paid["rejected"])
    world.sh.post("ann", "/v1/cancellations", {"uetr": paid["cancelled"]["uetr"]})
    _settled(world, paid["carried"]["uetr"])
    _settled(world)
    paid["waiting"] = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 9_00)
    world.sh.pay("ann", paid["waiting"])
    return Journals.of(world, paid)


def _settled(world: World, *leave_out: str) -> None:
    if not world.settle(leave_out):
        raise RuntimeError("the fixture's window did not settle")
