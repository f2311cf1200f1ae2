"""A request counts on one ledger: what a party made for the other one does not, even if a dishonest node journals it.

The same party joins both ledgers with the same key, so that nothing but the genesis hash in the signature's tag tells a
request for Shanghai from one for Hong Kong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger import audit, columns, messages
from ledger.errors import IntegrityFailure, LedgerError, Unauthenticated
from ledger.messages import Message
from ledger.runtime import ManualRuntime
from ledger.store import MemoryStore
from ledger.transfers import transfers
from settlement.interpreter import Settlement
from tests.receipt_fixture import journaled
from tests.settlement_fixture import Node, World, genesis_of, money, party, uetr_of

TWIN = "TWIN"
Body = Callable[[Node], object]


def transfer(node: Node) -> bytes:
    """Write a book transfer from the twin's own position to the wallet that it holds with itself."""
    commands = transfers(1)
    commands["id_lo"], commands["amount"] = 77, 5
    commands["debit"], commands["credit"] = node.account(f"POSITION.{TWIN}"), node.account(f"WALLET.{TWIN}")
    return columns.encode(commands)


def payment(node: Node) -> dict[str, Any]:
    """Write a payment from the twin's position to its wallet."""
    debtor, creditor = node.address(f"POSITION.{TWIN}"), node.address(f"WALLET.{TWIN}")
    return {"uetr": uetr_of("twin"), "debtor": debtor, "creditor": creditor, "money": money(5)}


def quote(_: Node) -> dict[str, Any]:
    """Write a quote of CNY for HKD."""
    expires = "2025-07-01T00:00:00Z"
    return {"quote": uetr_of("twin"), "sell": money(100), "buy": "HKD", "rate": "1.08430000", "expires": expires}


REQUESTS: dict[str, Body] = {
    "/v1/participants": lambda _: {"assets": ["HKD"]},
    "/v1/accounts": lambda _: {"accounts": [{"owner": TWIN, "asset": "HKD"}]},
    "/v1/quotes": quote,
    "/v1/payments": payment,
    "/v1/transfers": transfer,
}


@pytest.fixture
def world() -> World:
    """Give two ledgers on which the twin is a bank, a provider and its own customer, by one key."""
    world = World.everywhere()
    for node in world.nodes:
        twin = party(TWIN, "participant", "operator", "fx-provider")
        node.post(f"REGISTRAR-{node.ledger}", "/v1/parties", {"parties": [twin]})
        node.post(TWIN, "/v1/participants", {"assets": ["CNY"]})
        node.post(TWIN, "/v1/accounts", {"accounts": [{"owner": TWIN, "asset": "CNY"}]})
    world.hk.pay("eva", world.payment("HK/WALLET.eva", f"HK/POSITION.{TWIN}", 10_00))
    return world


def prepare(world: World, topic: str) -> None:
    """Have the twin do what must come before the request."""
    if topic in ("/v1/accounts", "/v1/quotes"):
        world.hk.post(TWIN, "/v1/participants", {"assets": ["HKD"]})


def made_for(world: World, ledger: str, topic: str) -> Message:
    """Have the twin sign a request that would be good in Hong Kong, made for a ledger at the instant of Hong Kong's."""
    body = REQUESTS[topic](world.hk)
    return world.node(ledger).request(TWIN, topic, body, at_ns=world.hk.machine.timestamp_ns)


def verify(store: MemoryStore) -> audit.Report:
    """Verify Hong Kong's journal as an auditor does, from its genesis."""
    return audit.verify(
        store,
        interpreter_factory=lambda: Settlement(genesis_of("HK")),
        trusted_genesis_hash=world_hash(),
        runtime=ManualRuntime(),
    )


def world_hash() -> bytes:
    """Give the hash of Hong Kong's genesis."""
    return Node.of("HK").machine.genesis_hash


@pytest.mark.parametrize("topic", REQUESTS)
def test_the_other_ledgers_request_is_refused(world: World, topic: str) -> None:
    """A node does not take what was made for the other ledger; the same made for its own is taken."""
    prepare(world, topic)
    before = world.hk.machine.state.money_digest(), world.hk.machine.position
    with pytest.raises(Unauthenticated) as caught:
        world.hk.apply([made_for(world, "SH", topic)])
    assert caught.value.code == "LEDGER_MISMATCH"
    assert (world.hk.machine.state.money_digest(), world.hk.machine.position) == before
    (outcome,) = world.hk.apply([made_for(world, "HK", topic)]).outcomes
    assert not isinstance(outcome, LedgerError), outcome


@pytest.mark.parametrize("topic", REQUESTS)
def test_the_other_ledgers_request_in_a_journal_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """A dishonest node journals what the twin made for the other ledger: the verifier names the record."""
    prepare(world, topic)
    # with the same request made for the right ledger the journal is good, so it is the tag alone that is refused
    honest = world.hk.replayed()
    honest.apply([made_for(world, "HK", topic)])
    report = verify(journaled(honest)[0])
    assert report.machine.position == honest.machine.position
    stolen, position = made_for(world, "SH", topic), world.hk.machine.position
    with monkeypatch.context() as dishonest:
        dishonest.setattr(messages, "check_addressee", lambda *_, **__: None)
        draft = world.hk.apply([stolen])
        assert [entry.message for entry in draft.entries] == [stolen]
        store, machine = journaled(world.hk)
        assert machine.position == world.hk.machine.position == honest.machine.position
    with pytest.raises(IntegrityFailure) as caught:
        verify(store)
    failure = caught.value
    assert (failure.code, failure.fields["reason"]) == ("MESSAGE_INVALID", "LEDGER_MISMATCH")
    assert (failure.block, failure.position) == (store.last_height(), position)
