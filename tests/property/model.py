"""A posting model in plain dictionaries, written from the rules in docs/results.md and not from the kernel.

It is slow and obvious: a command collects every rule it breaks, and the documented order picks one; a chain is tried
on a deep copy that is thrown away when a member is refused.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from ledger.transfers import Flag, Result

Command = dict[str, Any]

LIMIT = 2**63

# docs/results.md, from the top; refusals that arrive with a command and the two of chains stand above the list.
ORDER = [
    Result.FLAGS_INVALID,
    Result.AMOUNT_INVALID,
    Result.SAME_ACCOUNT,
    Result.ID_EXISTS,
    Result.DEBIT_NOT_FOUND,
    Result.CREDIT_NOT_FOUND,
    Result.ASSET_MISMATCH,
    Result.DEBIT_CLOSED,
    Result.CREDIT_CLOSED,
    Result.HOLD_NOT_FOUND,
    Result.HOLD_POSTED,
    Result.HOLD_VOIDED,
    Result.HOLD_EXPIRED,
    Result.HOLD_BOUND,
    Result.HOLD_EXCEEDED,
    Result.OVERFLOW,
    Result.DEBIT_LIMIT,
    Result.CREDIT_LIMIT,
]

ENDED = {"posted": Result.HOLD_POSTED, "voided": Result.HOLD_VOIDED, "expired": Result.HOLD_EXPIRED}


@dataclass
class Account:
    """One account."""

    asset: int
    credit_normal: bool
    limited: bool
    minimum: int
    closed: bool = False
    debits: int = 0
    credits: int = 0
    pending_debits: int = 0
    pending_credits: int = 0
    last: int = 0

    def available(self) -> int:
        """Posted balance on the normal side minus what is pending to flow out."""
        if self.credit_normal:
            return self.credits - self.debits - self.pending_debits
        return self.debits - self.credits - self.pending_credits


@dataclass
class Hold:
    """One living hold."""

    amount: int
    deadline: int
    position: int
    debit: int
    credit: int
    group: int
    member: int
    bound: bool


@dataclass
class Model:
    """A whole ledger; the keys of ``ids`` (position, what became of it) and ``holds`` (the living) are (party, id)."""

    accounts: dict[int, Account] = field(default_factory=dict)
    ids: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)
    holds: dict[tuple[int, int], Hold] = field(default_factory=dict)

    # --- commands ---------------------------------------------------------------------------------------------------

    def post(self, commands: list[Command], *, now: int, first: int) -> list[Command]:
        """Apply commands and give their records."""
        records: list[Command] = []
        start = 0
        while start < len(commands):
            end = start
            while end < len(commands) - 1 and commands[end]["flags"] & Flag.LINKED:
                end += 1
            records += self._chain(commands[start : end + 1], now=now, first=first + start)
            start = end + 1
        return records

    def _chain(self, commands: list[Command], *, now: int, first: int) -> list[Command]:
        trial = (
            copy.deepcopy(self) if len(commands) > 1 else self
        )  # a single command changes nothing when it is refused
        records = []
        failed = False
        for index, command in enumerate(commands):
            position = first + index
            if command["result"]:
                result = Result(command["result"])
            elif index == len(commands) - 1 and command["flags"] & Flag.LINKED:
                result = Result.CHAIN_OPEN
            elif failed:
                result = Result.LINKED_FAILED
            else:
                result = trial.decide(command, now)
            if result is Result.OK:
                records.append(trial.apply(command, position=position, now=now))
            else:
                failed = True
                records.append(dict(command, result=int(result), debit_previous=0, credit_previous=0))
        if not failed:
            self.accounts, self.ids, self.holds = trial.accounts, trial.ids, trial.holds
            return records
        for index, command in enumerate(commands):
            if not command["flags"] & Flag.EXPIRE:
                self.ids.setdefault((command["party"], command["id"]), (first + index, "refused"))
        return [
            record
            if record["result"]
            else dict(command, result=int(Result.LINKED_FAILED), debit_previous=0, credit_previous=0)
            for command, record in zip(commands, records, strict=True)
        ]

    def decide(self, command: Command, now: int) -> Result:
        """Give the first rule in the documented order that a command breaks."""
        broken = self._static(command)
        if not command["flags"] & Flag.EXPIRE and (command["party"], command["id"]) in self.ids:
            broken.add(Result.ID_EXISTS)
        if command["flags"] & (Flag.POST | Flag.VOID | Flag.EXPIRE):
            broken |= self._end(command, now)
        else:
            broken |= self._transfer(command)
        return next((result for result in ORDER if result in broken), Result.OK)

    def _static(self, command: Command) -> set[Result]:
        flags = Flag(command["flags"])
        kinds = [flag for flag in (Flag.PENDING, Flag.POST, Flag.VOID, Flag.EXPIRE) if flags & flag]
        ends = bool(flags & (Flag.POST | Flag.VOID | Flag.EXPIRE))
        broken = set()
        if command["flags"] >= 64 or len(kinds) > 1:
            broken.add(Result.FLAGS_INVALID)
        if flags & Flag.BOUND and not (kinds == [Flag.PENDING] and command["group"]):
            broken.add(Result.FLAGS_INVALID)
        if flags & Flag.EXPIRE and flags & Flag.LINKED:
            broken.add(Result.FLAGS_INVALID)
        if command["amount"] < (0 if ends else 1):
            broken.add(Result.AMOUNT_INVALID)
        if not ends and command["debit"] == command["credit"]:
            broken.add(Result.SAME_ACCOUNT)
        return broken

    def _transfer(self, command: Command) -> set[Result]:
        debit, credit = self.accounts.get(command["debit"]), self.accounts.get(command["credit"])
        missing = {Result.DEBIT_NOT_FOUND: debit is None, Result.CREDIT_NOT_FOUND: credit is None}
        if debit is None or credit is None:
            return {result for result, is_broken in missing.items() if is_broken}
        amount = command["amount"]
        debit_total = debit.debits + debit.pending_debits + amount
        credit_total = credit.credits + credit.pending_credits + amount
        debit_draws = debit.limited and debit.credit_normal
        credit_draws = credit.limited and not credit.credit_normal
        rules = {
            Result.ASSET_MISMATCH: debit.asset != credit.asset,
            Result.DEBIT_CLOSED: debit.closed,
            Result.CREDIT_CLOSED: credit.closed,
            Result.OVERFLOW: max(debit_total, credit_total) >= LIMIT,
            Result.DEBIT_LIMIT: debit_draws and debit.available() - amount < debit.minimum,
            Result.CREDIT_LIMIT: credit_draws and credit.available() - amount < credit.minimum,
        }
        return {result for result, is_broken in rules.items() if is_broken}

    def _end(self, command: Command, now: int) -> set[Result]:
        key = (command["party"], command["related"])
        hold = self.holds.get(key)
        if hold is None:
            return {ENDED.get(self.ids.get(key, (0, ""))[1], Result.HOLD_NOT_FOUND)}
        broken = set()
        is_over = not hold.bound and hold.deadline != 0 and hold.deadline <= now
        if hold.bound:
            broken.add(Result.HOLD_BOUND)
        if command["flags"] & Flag.EXPIRE:
            return broken or (set() if is_over else {Result.HOLD_NOT_FOUND})
        if is_over:
            broken.add(Result.HOLD_EXPIRED)
        if command["flags"] & Flag.POST and command["amount"] > hold.amount:
            broken.add(Result.HOLD_EXCEEDED)
        return broken

    def apply(self, command: Command, *, position: int, now: int) -> Command:
        """Carry out a command that breaks no rule."""
        record = dict(command, result=0)
        key = (command["party"], command["id"])
        flags = command["flags"]
        if flags & (Flag.POST | Flag.VOID | Flag.EXPIRE):
            hold = self.holds[command["party"], command["related"]]
            if not flags & Flag.POST or not command["amount"]:
                record["amount"] = hold.amount
            record |= {name: getattr(hold, name) for name in ("debit", "credit", "group", "member")}
            ending = "posted" if flags & Flag.POST else "voided" if flags & Flag.VOID else "expired"
            self.end((command["party"], command["related"]), ending, record["amount"])
            if not flags & Flag.EXPIRE:
                self.ids[key] = (position, "other")
        elif flags & Flag.PENDING:
            deadline = now + command["timeout_s"] * 10**9 if command["timeout_s"] else 0
            places = {name: command[name] for name in ("amount", "debit", "credit", "group", "member")}
            self.holds[key] = Hold(deadline=deadline, position=position, bound=bool(flags & Flag.BOUND), **places)
            self.accounts[command["debit"]].pending_debits += command["amount"]
            self.accounts[command["credit"]].pending_credits += command["amount"]
            self.ids[key] = (position, "hold")
        else:
            self.accounts[command["debit"]].debits += command["amount"]
            self.accounts[command["credit"]].credits += command["amount"]
            self.ids[key] = (position, "transfer")
        for side in ("debit", "credit"):
            account = self.accounts[record[side]]
            record[side + "_previous"], account.last = account.last, position + 1
        return record

    def end(self, key: tuple[int, int], ending: str, posted: int) -> None:
        """End a living hold, posting so much of it if it is posted at all."""
        hold = self.holds.pop(key)
        debit, credit = self.accounts[hold.debit], self.accounts[hold.credit]
        debit.pending_debits -= hold.amount
        credit.pending_credits -= hold.amount
        if ending == "posted":
            debit.debits += posted
            credit.credits += posted
        self.ids[key] = (hold.position, ending)

    # --- expiry and groups ------------------------------------------------------------------------------------------

    def due(self, now: int) -> list[tuple[int, int]]:
        """Give the keys (party, id) of the open holds whose deadline has come, by (deadline, id, party)."""
        found = [
            (hold.deadline, identifier, party)
            for (party, identifier), hold in self.holds.items()
            if not hold.bound and hold.deadline and hold.deadline <= now
        ]
        return [(party, identifier) for _, identifier, party in sorted(found)]

    def members(self, group: int) -> dict[tuple[int, int], Hold]:
        """Give the living holds of a group."""
        return {key: hold for key, hold in self.holds.items() if hold.group == group}
