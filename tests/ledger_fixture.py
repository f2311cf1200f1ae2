"""A small ledger for the ledger's own tests: one network, fixed keys, an interpreter of five kinds of message.

==========  =================================================  ===========================
kind        body                                               who may
==========  =================================================  ===========================
register    code, a line feed, raw public key                  the registrar
revoke      key id, 64 hex digits                              the registrar
open        asset u16, flags u16, minimum i64; METERED: class  everybody, for itself
            1, which lets out 1,000 a business day
post        transfers, as ``TRANSFER`` bytes                   the owners of what is debited
note        anything                                           everybody; derives nothing
==========  =================================================  ===========================

As a statement the kind is the statement's, as a request the path is ``/`` and the kind.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import columns, genesis, journal, messages, signatures
from ledger.accounts import AccountFlag
from ledger.errors import Forbidden, MalformedInput
from ledger.exports import write_export
from ledger.genesis import Genesis, GenesisAsset, GenesisParty
from ledger.journal import Block
from ledger.machine import Admitted, Context, Draft, Machine
from ledger.messages import Envelope, Kind, Message
from ledger.meters import ClassLimits
from ledger.parties import Role
from ledger.runtime import SECOND_NS, ManualRuntime
from ledger.store import MemoryStore, Store
from ledger.transfers import TRANSFER, Flag, Transfers, id_halves, transfers
from ledger.values import Codec

NETWORK = "hugang-test-0001"
LEDGER = "SH"
START_S = 1_767_225_600
CNY, MEMO = 1, 2
HASH_KEY = bytes(range(16))
CREDIT = AccountFlag.CREDIT_NORMAL
WALLET = AccountFlag.CREDIT_NORMAL | AccountFlag.LIMITED
DAY_MAX = 1_000
VALUES = Codec(classes=(), dtypes={})
_OPEN = struct.Struct("<HHq")
_FILLED_IN = ("message", "debit_previous", "credit_previous", "party", "result", "item")


def private_key(name: str) -> Ed25519PrivateKey:
    """Give the key that always belongs to this name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"hugang test key {name}".encode()).digest())


def public_hex(name: str) -> str:
    """Give a name's public key in hex."""
    return messages.public_bytes(private_key(name)).hex()


def make_genesis() -> Genesis:
    """Give the fixture's genesis: a node, a registrar, and two parties with no role."""
    return Genesis(
        format=1,
        network=NETWORK,
        ledger=LEDGER,
        created_ns=START_S * SECOND_NS,
        test_clock=True,
        assets=(
            GenesisAsset(code="CNY", number=CNY, scale=2, kind="money", home="SH"),
            GenesisAsset(code="QUOTA", number=MEMO, scale=0, kind="memo", home="SH"),
        ),
        parties=(
            GenesisParty(code="NODE", name="Node", roles=("node",), public_key=public_hex("node"), ledger=LEDGER),
            GenesisParty(code="REG", name="Registrar", roles=("registrar",), public_key=public_hex("registrar")),
            GenesisParty(code="ALICE", name="Alice", roles=(), public_key=public_hex("alice")),
            GenesisParty(code="BOB", name="Bob", roles=(), public_key=public_hex("bob")),
        ),
    )


GENESIS = make_genesis()
GENESIS_BYTES = genesis.encode(GENESIS)
GENESIS_HASH = genesis.genesis_hash(GENESIS)
NETWORK_HASH = genesis.network_hash(GENESIS)


class FixtureInterpreter:
    """Deterministic and tiny; counts what it did, so that its own state is a fold too."""

    clock_offset_ns = 0

    def __init__(self) -> None:
        self.executed_count = 0
        self.expired_count = 0
        self.days: list[int] = []

    def begin(self, machine: Machine) -> None:
        """No account exists before the first block, but a class does."""
        machine.state.set_class_limits(1, ClassLimits(day_max=DAY_MAX))

    def decode(self, envelope: Envelope, body: bytes) -> Any:
        """Read a body strictly."""
        kind = envelope.topic.removeprefix("statement:").removeprefix("/")
        if kind == "register":
            code, _, key = body.partition(b"\n")
            if len(key) != 32 or not code.isalnum():
                raise MalformedInput("BODY_MALFORMED", "Not a registration.")
            return code.decode("ascii"), key
        if kind == "revoke" and len(body) == 64 and body.isalnum():
            return body.decode("ascii")
        if kind == "open" and len(body) == _OPEN.size:
            return _OPEN.unpack(body)
        if kind == "post" and len(body) % TRANSFER.itemsize == 0:
            commands = np.frombuffer(body, TRANSFER)
            if any(commands[name].any() for name in _FILLED_IN):
                raise MalformedInput("BODY_MALFORMED", "A command fills in what is not its own.")
            return commands
        if kind == "columns":
            return columns.decode(body)
        if kind == "note":
            return None
        raise MalformedInput("BODY_MALFORMED", "No such message.", topic=envelope.topic)

    def authorise(self, admitted: Admitted, machine: Machine, timestamp_ns: int) -> None:  # noqa: ARG002 - of the protocol
        """Let the registrar register, and owners debit."""
        kind = kind_of(admitted)
        roles = machine.directory.party(admitted.party).roles
        if kind in ("register", "revoke") and Role.REGISTRAR not in roles:
            raise Forbidden("NOT_REGISTRAR", "Only the registrar may do this.")
        if kind == "register":
            code, key = admitted.content
            if code in machine.directory.numbers or messages.key_id_of(key) in machine.directory.keys:
                raise Forbidden("PARTY_EXISTS", "This party is registered already.")
        if kind == "revoke":
            machine.directory.signer(admitted.content)
        if kind in ("post", "columns"):
            accounts = machine.state.accounts
            debits = admitted.content["debit"]
            known = debits[(debits > 0) & (debits < len(accounts))]
            if np.any(accounts["owner"][known] != admitted.party):
                raise Forbidden("NOT_OWNER", "Only the owner may debit an account.")

    def execute(self, admitted: Admitted, context: Context) -> None:
        """Do what the message says."""
        self.executed_count += 1
        kind = kind_of(admitted)
        if kind == "register":
            code, key = admitted.content
            context.directory.add(code=code, name=code, roles=frozenset(), public_key=key)
        elif kind == "revoke":
            context.directory.revoke(admitted.content, context.position)
        elif kind == "open":
            asset, flags, minimum = admitted.content
            context.state.open_account(
                owner=admitted.party,
                asset=asset,
                code=0,
                flags=AccountFlag(flags) & WALLET,
                minimum=minimum,
                klass=1 if flags & AccountFlag.METERED else 0,
            )
        elif kind == "post":
            commands = admitted.content.copy()
            commands["party"] = admitted.party
            commands["item"] = np.arange(len(commands))
            context.post(commands)
        elif kind == "columns":
            context.post_columns(admitted.content, party=admitted.party, code=9)

    def dump(self) -> list[bytes | memoryview]:
        """Give the counts."""
        return VALUES.pack(vars(self))

    def load(self, data: memoryview) -> None:
        """Take the counts over."""
        vars(self).update(VALUES.unpack(data))

    def begin_day(self, machine: Machine, day: int) -> None:  # noqa: ARG002 - of the protocol
        """Remember the days that have begun."""
        self.days.append(day)

    def expired(self, machine: Machine, records: Transfers) -> None:  # noqa: ARG002 - of the protocol
        """Count them."""
        self.expired_count += len(records)


def kind_of(admitted: Admitted) -> str:
    """Give the kind of a message, however it was signed."""
    return admitted.envelope.topic.removeprefix("statement:").removeprefix("/")


# --- bodies -----------------------------------------------------------------------------------------------------------


def register_body(name: str) -> bytes:
    """Give the body that registers a name with its key."""
    return name.upper().encode() + b"\n" + messages.public_bytes(private_key(name))


def open_body(*, flags: AccountFlag = WALLET, asset: int = CNY, minimum: int = 0) -> bytes:
    """Give the body that opens an account."""
    return _OPEN.pack(asset, flags, minimum)


def transfer(
    identifier: int,
    *,
    debit: int,
    credit: int,
    amount: int,
    flags: Flag = Flag.NONE,
    timeout_s: int = 0,
    related: int = 0,
) -> Transfers:
    """Give one command."""
    command = transfers(1)
    command["id_hi"], command["id_lo"] = id_halves(identifier)
    command["related_hi"], command["related_lo"] = id_halves(related)
    command["debit"], command["credit"], command["amount"] = debit, credit, amount
    command["flags"], command["timeout_s"] = int(flags), timeout_s
    return command


def many_transfers(count: int, *, debit: int, credit: int, first_id: int, seed: int = 0) -> Transfers:
    """Give ``count`` commands between two accounts with random small amounts."""
    commands = transfers(count)
    commands["id_lo"] = np.arange(first_id, first_id + count)
    commands["debit"], commands["credit"] = debit, credit
    commands["amount"] = np.random.default_rng(seed).integers(1, 1000, count)
    return commands


# --- messages ---------------------------------------------------------------------------------------------------------

_serial = itertools.count(1)


def statement(
    signer: str, kind: str, body: bytes, *, serial: int | None = None, network_hash: bytes = NETWORK_HASH
) -> Message:
    """Sign a statement; ``serial`` makes it another message with the same body."""
    number = next(_serial) if serial is None else serial
    return messages.statement(
        private_key(signer), network_hash=network_hash, ledger="--", kind=kind, subject=f"{number}/0", body=body
    )


def request(
    signer: str,
    kind: str,
    body: bytes,
    *,
    idempotency_key: str,
    created_s: int = START_S,
    expires_s: int | None = None,
    genesis_hash: bytes = GENESIS_HASH,
) -> Message:
    """Sign a request as a client would send it."""
    key = private_key(signer)
    base = signatures.signature_base(
        method="POST",
        authority="127.0.0.1:8700",
        path=f"/{kind}",
        created=created_s,
        expires=created_s + 60 if expires_s is None else expires_s,
        key_id=messages.key_id_of(messages.public_bytes(key)),
        genesis_hash=genesis_hash,
        content_type="application/octet-stream",
        content_digest=hashlib.sha256(body).digest(),
        idempotency_key=idempotency_key,
    )
    return Message(Kind.REQUEST, base, signatures.sign(key, base), body)


# --- journals ---------------------------------------------------------------------------------------------------------


def make_machine(*, compiled: bool = True) -> Machine:
    """Give a machine before block 1."""
    return Machine(GENESIS, FixtureInterpreter(), hash_key=HASH_KEY, compiled=compiled)


def make_runtime(*, seed: int = 0, **arguments: Any) -> ManualRuntime:
    """Give a hand-moved clock that stands at the fixture's start."""
    return ManualRuntime(seed=seed, start_ns=START_S * SECOND_NS, **arguments)


@dataclass
class Chain:
    """A machine and the blocks it has made, without a writer."""

    machine: Machine = field(default_factory=make_machine)
    blocks: list[Block] = field(default_factory=list)

    def add(self, *batch: Message, at_s: int | None = None) -> Block:
        """Admit and apply messages one by one, and seal a block of what is taken."""
        timestamp_ns = START_S * SECOND_NS + at_s * SECOND_NS if at_s is not None else self.machine.timestamp_ns + 1
        draft = self.draft(batch, timestamp_ns)
        block = journal.seal(draft, self.machine.grow(draft), private_key("node"), ledger=LEDGER)
        self.machine.seal(block.hash)
        self.blocks.append(block)
        return block

    def draft(self, batch: Sequence[Message], timestamp_ns: int) -> Draft:
        """Apply messages; every one must be taken."""

        def admitted() -> Iterator[Admitted]:
            for message in batch:
                yield self.machine.admit(message, at_ns=None)

        draft = self.machine.apply(admitted(), timestamp_ns)
        if len(draft.entries) != len(batch):
            raise ValueError(f"not all messages were taken: {draft.outcomes}")
        return draft

    def store(self) -> MemoryStore:
        """Put the blocks into a store."""
        store = MemoryStore(GENESIS_BYTES, runtime=make_runtime())
        for block in self.blocks:
            store.append(block)
        return store


def export_bytes(store: Store) -> bytes:
    """Export a store into memory."""
    file = io.BytesIO()
    write_export(store, file)
    return file.getvalue()


def reference_chain() -> Chain:
    """Make the reference journal: small, and with one of everything.

    Block 1 registers Carol and lets her open an account at once. Block 2 moves money, refuses once, and makes two
    holds. Block 3 posts one of them by a signed request and carries a note. Block 4 begins with the expiry of the other
    and revokes Carol's key. Block 5 is nothing but an expiry.
    """
    chain = Chain()
    chain.add(
        statement("registrar", "register", register_body("carol"), serial=1),
        statement("alice", "open", open_body(flags=CREDIT), serial=2),
        statement("bob", "open", open_body(), serial=3),
        statement("carol", "open", open_body(), serial=4),
        at_s=1,
    )
    chain.add(
        statement("alice", "post", transfer(1, debit=1, credit=2, amount=10_000).tobytes(), serial=5),
        statement(
            "bob",
            "post",
            np.concatenate(
                (
                    transfer(1, debit=2, credit=3, amount=2_500),
                    transfer(2, debit=2, credit=3, amount=99_999),
                    transfer(3, debit=2, credit=1, amount=700, flags=Flag.PENDING, timeout_s=60),
                    transfer(4, debit=2, credit=3, amount=800, flags=Flag.PENDING, timeout_s=5),
                )
            ).tobytes(),
            serial=6,
        ),
        statement(
            "carol",
            "post",
            transfer(9, debit=3, credit=1, amount=1, flags=Flag.PENDING, timeout_s=90).tobytes(),
            serial=7,
        ),
        at_s=2,
    )
    ends = transfer(5, debit=0, credit=0, amount=300, flags=Flag.POST, related=3)
    chain.add(
        request("bob", "post", ends.tobytes(), idempotency_key="end-of-hold-3"),
        statement("alice", "note", b"nothing to see", serial=8),
        at_s=3,
    )
    revoked = messages.key_id_of(messages.public_bytes(private_key("carol"))).encode()
    chain.add(statement("registrar", "revoke", revoked, serial=9), at_s=10)
    chain.add(at_s=100)
    return chain
