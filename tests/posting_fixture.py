"""A small ledger for kernel tests, and a short way to write commands."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ledger import posting
from ledger.accounts import AccountFlag
from ledger.reversals import Recall
from ledger.state import State
from ledger.transfers import TRANSFER, Result, Transfers, transfers

SECOND = 10**9
NOW = 1_000 * SECOND
AMOUNT_MAX = 2**63 - 1
CREDIT, LIMITED = AccountFlag.CREDIT_NORMAL, AccountFlag.LIMITED


def state_of(*flags: AccountFlag, minimum: int = 0, asset: int = 1) -> State:
    """Make a state with one account for each combination of flags, numbered from 1."""
    state = State(b"a secret of the tests")
    for flag in flags:
        state.open_account(owner=1, asset=asset, code=7, flags=flag, minimum=minimum)
    return state


def command(identifier: int = 0, **fields: Any) -> Transfers:
    """Make one command of party 1: by default 10 from account 1 to account 2."""
    result = transfers(1)
    related = fields.pop("related", 0)
    values = {"debit": 1, "credit": 2, "amount": 10, "party": 1, **fields}
    result["id_hi"], result["id_lo"] = identifier >> 64, identifier & (2**64 - 1)
    result["related_hi"], result["related_lo"] = related >> 64, related & (2**64 - 1)
    for name, value in values.items():
        result[name] = value
    return result


def end(identifier: int, related: int, **fields: Any) -> Transfers:
    """Make a command about a hold: it names neither accounts nor, unless told, an amount."""
    return command(identifier, related=related, **{"debit": 0, "credit": 0, "amount": 0, **fields})


class Ledger:
    """A state and the position that comes next."""

    def __init__(self, state: State, *, compiled: bool = True) -> None:
        """Start at position 100, at the instant NOW."""
        self.state = state
        self.compiled = compiled
        self.position = 100
        self.now = NOW
        self.records: list[tuple[int, Transfers]] = []
        self.recall: Recall = self.recalled

    def post(self, *commands: Transfers) -> Transfers:
        """Post commands as one batch and give the records; the state is checked."""
        batch = np.concatenate(commands)
        posting.post(
            self.state,
            batch,
            timestamp_ns=self.now,
            first_position=self.position,
            recall=self.recall,
            compiled=self.compiled,
        )
        self.records.append((self.position, batch.copy()))
        self.position += len(batch)
        self.state.check()
        return batch

    def results(self, *commands: Transfers) -> list[Result]:
        """Post commands as one batch and give the results."""
        return [Result(int(result)) for result in self.post(*commands)["result"]]

    def result(self, one: Transfers) -> Result:
        """Post one command by itself and give its result."""
        return self.results(one)[0]

    def recalled(self, positions: npt.NDArray[np.uint64]) -> Transfers:
        """Give the records at some positions, of all that was posted here."""
        rows = {first + i: batch[i] for first, batch in self.records for i in range(len(batch))}
        return np.array([rows[position] for position in positions.tolist()], TRANSFER)

    def counters(self, number: int) -> tuple[int, int, int, int]:
        """Give debits posted and pending, credits posted and pending of an account."""
        account = self.state.account(number)
        return account.debits_posted, account.debits_pending, account.credits_posted, account.credits_pending
