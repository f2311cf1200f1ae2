"""What stops a machine: contradictions that no message can bring about."""

from __future__ import annotations

import dataclasses

import pytest

from ledger import posting
from ledger.errors import InvariantViolation
from ledger.machine import Context
from ledger.transfers import Flag, Transfers, transfers
from tests.ledger_fixture import Chain, many_transfers, open_body, request


def opened() -> Chain:
    """Give a chain with two accounts."""
    chain = Chain()
    for number in range(2):
        chain.add(request("alice", "open", open_body(), idempotency_key=f"open-{number}"))
    return chain


def test_a_message_in_columns_derives_nothing_else() -> None:
    """Columns cannot follow other records of the same message: a block stores them beside it."""
    machine = opened().machine
    context = Context(machine, position=machine.position, timestamp_ns=machine.timestamp_ns + 1)
    context.post(many_transfers(1, debit=1, credit=2, first_id=1))
    with pytest.raises(InvariantViolation):
        context.post_columns(many_transfers(1, debit=1, credit=2, first_id=2), party=1, code=1)


def test_a_key_keeps_its_party() -> None:
    """A message is applied for the party for which it was admitted, or not at all."""
    machine = opened().machine
    message = request("alice", "open", open_body(), idempotency_key="another")
    admitted = machine.admit(message, at_ns=None)
    stranger = dataclasses.replace(admitted, party=admitted.party + 1)
    with pytest.raises(InvariantViolation):
        machine.apply([stranger], machine.timestamp_ns + 1)


def test_what_is_due_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expiry that the kernel refuses is no block (I10)."""
    machine = opened().machine

    def wrong(_state: object, _timestamp_ns: int) -> Transfers:
        """Name a hold that nobody made."""
        commands = transfers(1)
        commands["related_lo"], commands["flags"] = 77, Flag.EXPIRE
        return commands

    monkeypatch.setattr(posting, "due", wrong)
    with pytest.raises(InvariantViolation, match="I10"):
        machine.apply([], machine.timestamp_ns + 1)
