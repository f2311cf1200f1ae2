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
Key = tuple[int, int]
"""Party and id."""

LIMIT = 2**63
NO_LIMITS = {"maximum": LIMIT - 1, "item": LIMIT - 1, "day": LIMIT - 1, "year": LIMIT - 1}

# docs/results.md, from the top; refusals that arrive with a command and the two of chains stand above the list.
ORDER = [
    Result.FLAGS_INVALID,
    Result.AMOUNT_INVALID,
    Result.VALUE_DAY_INVALID,
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
    Result.HOLD_IN_WINDOW,
    Result.HOLD_GROUPED,
    Result.HOLD_NOT_GROUPED,
    Result.HOLD_EXCEEDED,
    Result.REVERSAL_NOT_FOUND,
    Result.REVERSAL_MISMATCH,
    Result.REVERSAL_EXCEEDED,
    Result.NOTHING_AVAILABLE,
    Result.OVERFLOW,
    Result.DEBIT_LIMIT,
    Result.CREDIT_LIMIT,
    Result.MIN_AVAILABLE,
    Result.DEBIT_MAXIMUM,
    Result.CREDIT_MAXIMUM,
    Result.ITEM_LIMIT,
    Result.DAY_LIMIT,
    Result.YEAR_LIMIT,
]

ENDED = {"posted": Result.HOLD_POSTED, "voided": Result.HOLD_VOIDED, "expired": Result.HOLD_EXPIRED}
ENDS = Flag.POST | Flag.VOID | Flag.EXPIRE
BALANCING = Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT


@dataclass
class Account:
    """One account."""

    asset: int
    credit_normal: bool
    limited: bool
    minimum: int
    maximum: int | None = None
    klass: int | None = None
    closed: bool = False
    debits: int = 0
    credits: int = 0
    pending_debits: int = 0
    pending_credits: int = 0
    last: int = 0
    records: int = 0
    day_used: int = 0
    year_used: int = 0

    def available(self) -> int:
        """Posted balance on the normal side minus what is pending to flow out."""
        if self.credit_normal:
            return self.credits - self.debits - self.pending_debits
        return self.debits - self.credits - self.pending_credits

    def counters(self) -> tuple[int, int, int, int, int]:
        """Give what a point keeps of an account."""
        return self.last, self.pending_debits, self.debits, self.pending_credits, self.credits


@dataclass
class Hold:
    """One living hold; ``circle`` has the keys of its hold group, in order of making, none if it is in none."""

    amount: int
    deadline: int
    position: int
    debit: int
    credit: int
    group: int
    member: int
    bound: bool
    circle: list[Key]
    counted_on: int | None


@dataclass
class Model:
    """A whole ledger; the keys of ``ids`` (position, what became of it) and ``holds`` (the living) are (party, id).

    ``moved`` has what can be reversed, by key: applied amount, debit, credit; ``reversed`` what was taken back of it.
    ``day`` and ``year`` name the business day and its year, whatever their numbers.
    """

    accounts: dict[int, Account] = field(default_factory=dict)
    classes: dict[int, dict[str, int]] = field(default_factory=lambda: {0: NO_LIMITS})
    ids: dict[Key, tuple[int, str]] = field(default_factory=dict)
    holds: dict[Key, Hold] = field(default_factory=dict)
    moved: dict[Key, tuple[int, int, int]] = field(default_factory=dict)
    reversed: dict[Key, int] = field(default_factory=dict)
    day: int = 0
    year: int = 0
    year_of: dict[int, int] = field(default_factory=dict)

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
        # A single command changes nothing when it is refused.
        trial = copy.deepcopy(self) if len(commands) > 1 else self
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
                result = trial.decide(commands, index, now)
            if result is Result.OK:
                records.append(trial.apply(commands, index, position=position, now=now))
            else:
                failed = True
                records.append(dict(command, result=int(result), debit_previous=0, credit_previous=0))
        if failed:
            return self._taken_back(commands, records, first)
        self.__dict__.update(trial.__dict__)
        return records

    def _taken_back(self, commands: list[Command], records: list[Command], first: int) -> list[Command]:
        """Use up the ids of a chain that failed, and give its records as refusals."""
        for index, (command, record) in enumerate(zip(commands, records, strict=True)):
            key = (command["party"], command["id"])
            if not record["result"]:
                records[index] = dict(command, result=int(Result.LINKED_FAILED), debit_previous=0, credit_previous=0)
            if record["result"] == Result.ID_EXISTS and not command["flags"] & Flag.EXPIRE and key in self.ids:
                record["debit_previous"] = self.ids[key][0] + 1
            if not command["flags"] & Flag.EXPIRE:
                self.ids.setdefault(key, (first + index, "refused"))
        return records

    def decide(self, chain: list[Command], index: int, now: int) -> Result:
        """Give the first rule in the documented order that a command breaks."""
        command = chain[index]
        broken = self._static(chain, index)
        if not command["flags"] & Flag.EXPIRE and (command["party"], command["id"]) in self.ids:
            broken.add(Result.ID_EXISTS)
        if command["flags"] & ENDS:
            broken |= self._end(command, now)
        else:
            broken |= self._transfer(command)
        return next((result for result in ORDER if result in broken), Result.OK)

    def _static(self, chain: list[Command], index: int) -> set[Result]:
        command = chain[index]
        flags = Flag(command["flags"] & 2047)
        kinds = [flag for flag in (Flag.PENDING, Flag.POST, Flag.VOID, Flag.EXPIRE) if flags & flag]
        broken = set()
        if command["flags"] > 2047 or len(kinds) > 1 or self._misplaced(flags, kinds, command):
            broken.add(Result.FLAGS_INVALID)
        if flags & Flag.GROUP and kinds == [Flag.PENDING]:
            beside = [chain[place] for place in (index - 1, index + 1) if 0 <= place < len(chain)]
            run = Flag.PENDING | Flag.GROUP
            earlier = [other["flags"] & run == run for other in chain[max(0, index - 256) : index]]
            is_too_many = len(earlier) == 256 and all(earlier)
            if command["group"] or is_too_many or not any(other["flags"] & run == run for other in beside):
                broken.add(Result.FLAGS_INVALID)
        takes_zero = bool(flags & (ENDS | BALANCING | Flag.REVERSAL))
        is_named = flags & ENDS and flags & Flag.GROUP and command["amount"]
        if command["amount"] < (0 if takes_zero else 1) or is_named:
            broken.add(Result.AMOUNT_INVALID)
        if command["value_day"] >= 2**16:
            broken.add(Result.VALUE_DAY_INVALID)
        if not flags & ENDS and command["debit"] == command["credit"]:
            broken.add(Result.SAME_ACCOUNT)
        return broken

    @staticmethod
    def _misplaced(flags: Flag, kinds: list[Flag], command: Command) -> bool:
        """Say whether a flag stands where the table does not let it."""
        permitted = {
            Flag.LINKED: kinds != [Flag.EXPIRE],
            Flag.BOUND: kinds == [Flag.PENDING] and command["group"] != 0 and not flags & Flag.GROUP,
            Flag.REVERSAL: not kinds and not flags & BALANCING,
            Flag.BALANCING_DEBIT: not flags & ENDS,
            Flag.BALANCING_CREDIT: not flags & ENDS,
            Flag.MIN_AVAILABLE: not flags & ENDS,
            Flag.GROUP: bool(kinds),
        }
        is_wrong = any(flags & flag and not fits for flag, fits in permitted.items())
        return is_wrong or (command["minimum"] != 0 and not flags & Flag.MIN_AVAILABLE)

    def _transfer(self, command: Command) -> set[Result]:
        debit, credit = self.accounts.get(command["debit"]), self.accounts.get(command["credit"])
        missing = {Result.DEBIT_NOT_FOUND: debit is None, Result.CREDIT_NOT_FOUND: credit is None}
        if debit is None or credit is None:
            return {result for result, is_broken in missing.items() if is_broken}
        rules = {
            Result.ASSET_MISMATCH: debit.asset != credit.asset,
            Result.DEBIT_CLOSED: debit.closed,
            Result.CREDIT_CLOSED: credit.closed,
        }
        broken = {result for result, is_broken in rules.items() if is_broken}
        refusal, amount = self.amount_of(command)
        if refusal is not None:
            return broken | {refusal}
        return broken | self._limits(command, amount)

    def amount_of(self, command: Command) -> tuple[Result | None, int]:
        """Give the applied amount, or why there is none."""
        flags = command["flags"]
        if flags & Flag.REVERSAL:
            key = (command["party"], command["related"])
            if key not in self.moved:
                return Result.REVERSAL_NOT_FOUND, 0
            whole, debit, credit = self.moved[key]
            rest = whole - self.reversed.get(key, 0)
            if (command["debit"], command["credit"]) != (credit, debit):
                return Result.REVERSAL_MISMATCH, 0
            if rest == 0 or command["amount"] > rest:
                return Result.REVERSAL_EXCEEDED, 0
            return None, command["amount"] or rest
        amount = command["amount"]
        if flags & BALANCING:
            amount = min([amount or LIMIT - 1, *self._rooms(command)])
            if amount <= 0:
                return Result.NOTHING_AVAILABLE, 0
        return None, amount

    def _rooms(self, command: Command) -> list[int]:
        debit, credit = self.accounts[command["debit"]], self.accounts[command["credit"]]
        rooms = []
        if command["flags"] & Flag.BALANCING_DEBIT:
            minimum = debit.minimum if debit.limited and debit.credit_normal else 0
            rooms.append(debit.credits - debit.debits - debit.pending_debits - minimum)
        if command["flags"] & Flag.BALANCING_CREDIT:
            minimum = credit.minimum if credit.limited and not credit.credit_normal else 0
            rooms.append(credit.debits - credit.credits - credit.pending_credits - minimum)
        return rooms

    def _limits(self, command: Command, amount: int) -> set[Result]:
        debit, credit = self.accounts[command["debit"]], self.accounts[command["credit"]]
        debit_total = debit.debits + debit.pending_debits + amount
        credit_total = credit.credits + credit.pending_credits + amount
        if debit.credit_normal:
            left = debit.available() - amount
        else:
            left = debit.available() + (0 if command["flags"] & Flag.PENDING else amount)
        rules = {
            Result.OVERFLOW: max(debit_total, credit_total) >= LIMIT,
            Result.DEBIT_LIMIT: debit.limited and debit.credit_normal and debit.available() - amount < debit.minimum,
            Result.CREDIT_LIMIT: (
                credit.limited and not credit.credit_normal and credit.available() - amount < credit.minimum
            ),
            Result.MIN_AVAILABLE: bool(command["flags"] & Flag.MIN_AVAILABLE) and left < command["minimum"],
            Result.DEBIT_MAXIMUM: not debit.credit_normal and debit_total - debit.credits > self._maximum(debit),
            Result.CREDIT_MAXIMUM: credit.credit_normal and credit_total - credit.debits > self._maximum(credit),
        }
        limits = self.classes[debit.klass or 0]
        rules |= {
            Result.ITEM_LIMIT: amount > limits["item"],
            Result.DAY_LIMIT: debit.day_used + amount > limits["day"],
            Result.YEAR_LIMIT: debit.year_used + amount > limits["year"],
        }
        return {result for result, is_broken in rules.items() if is_broken}

    def _maximum(self, account: Account) -> int:
        """Give the most that an account may hold; no 64-bit sum reaches the last of these."""
        own = 2 * LIMIT if account.maximum is None else account.maximum
        return min(own, self.classes[account.klass or 0]["maximum"])

    def _end(self, command: Command, now: int) -> set[Result]:
        key = (command["party"], command["related"])
        hold = self.holds.get(key)
        if hold is None:
            return {ENDED.get(self.ids.get(key, (0, ""))[1], Result.HOLD_NOT_FOUND)}
        broken = set()
        is_over = not hold.bound and any(self._is_over(other, now) for other in hold.circle or [key])
        if hold.bound:
            broken.add(Result.HOLD_BOUND)
        elif command["flags"] & Flag.EXPIRE and not is_over:
            broken.add(Result.HOLD_NOT_FOUND)
        elif is_over and not command["flags"] & Flag.EXPIRE:
            broken.add(Result.HOLD_EXPIRED)
        if command["group"] != hold.group and not command["flags"] & Flag.EXPIRE:
            broken.add(Result.HOLD_IN_WINDOW)
        if hold.circle and not command["flags"] & Flag.GROUP:
            broken.add(Result.HOLD_GROUPED)
        if not hold.circle and command["flags"] & Flag.GROUP:
            broken.add(Result.HOLD_NOT_GROUPED)
        if command["flags"] & Flag.POST and command["amount"] > hold.amount:
            broken.add(Result.HOLD_EXCEEDED)
        return broken

    def _is_over(self, key: Key, now: int) -> bool:
        return 0 < self.holds[key].deadline <= now

    def apply(self, chain: list[Command], index: int, *, position: int, now: int) -> Command:
        """Carry out a command that breaks no rule."""
        command = chain[index]
        record = dict(command, result=0)
        key = (command["party"], command["id"])
        flags = command["flags"]
        if flags & ENDS:
            related = (command["party"], command["related"])
            hold = self.holds[related]
            if not flags & Flag.POST or not command["amount"]:
                record["amount"] = hold.amount
            record |= {name: getattr(hold, name) for name in ("debit", "credit", "group", "member")}
            ending = "posted" if flags & Flag.POST else "voided" if flags & Flag.VOID else "expired"
            for other in list(hold.circle) or [related]:
                self.end(other, ending, record["amount"] if other == related else self.holds[other].amount)
            if not flags & Flag.EXPIRE:
                self.ids[key] = (position, "other")
            if flags & Flag.POST and not flags & Flag.GROUP:
                self.moved[key] = (record["amount"], record["debit"], record["credit"])
        else:
            _, record["amount"] = self.amount_of(command)
            self._move(record, key, position=position, now=now)
            if flags & Flag.PENDING and flags & Flag.GROUP:
                self._join(chain, index, key)
        for side in ("debit", "credit"):
            account = self.accounts[record[side]]
            record[side + "_previous"], account.last = account.last, position + 1
            account.records += 1
        return record

    def _move(self, record: Command, key: Key, *, position: int, now: int) -> None:
        """Post at once, or reserve."""
        debit, credit, amount = self.accounts[record["debit"]], self.accounts[record["credit"]], record["amount"]
        is_metered = debit.klass is not None
        if is_metered:
            debit.day_used += amount
            debit.year_used += amount
        if record["flags"] & Flag.PENDING:
            deadline = now + record["timeout_s"] * 10**9 if record["timeout_s"] else 0
            places = {name: record[name] for name in ("amount", "debit", "credit", "group", "member")}
            bound, counted_on = bool(record["flags"] & Flag.BOUND), self.day if is_metered else None
            self.holds[key] = Hold(
                deadline=deadline, position=position, bound=bound, circle=[], counted_on=counted_on, **places
            )
            debit.pending_debits += amount
            credit.pending_credits += amount
            self.ids[key] = (position, "hold")
            return
        debit.debits += amount
        credit.credits += amount
        self.ids[key] = (position, "transfer")
        if record["flags"] & Flag.REVERSAL:
            original = (record["party"], record["related"])
            self.reversed[original] = self.reversed.get(original, 0) + amount
        else:
            self.moved[key] = (amount, record["debit"], record["credit"])

    def _join(self, chain: list[Command], index: int, key: Key) -> None:
        """Put a hold into the group of its run."""
        run = Flag.PENDING | Flag.GROUP
        circle = [key]
        if index and chain[index - 1]["flags"] & run == run:
            circle = self.holds[chain[index - 1]["party"], chain[index - 1]["id"]].circle
            circle.append(key)
        self.holds[key].circle = circle

    def end(self, key: Key, ending: str, posted: int) -> None:
        """End a living hold, posting so much of it if it is posted at all."""
        hold = self.holds.pop(key)
        debit, credit = self.accounts[hold.debit], self.accounts[hold.credit]
        debit.pending_debits -= hold.amount
        credit.pending_credits -= hold.amount
        if ending == "posted":
            debit.debits += posted
            credit.credits += posted
        released = hold.amount - posted if ending == "posted" else hold.amount
        if hold.counted_on is not None and self.year_of[hold.counted_on] == self.year:
            debit.year_used -= released
            debit.day_used -= released if hold.counted_on == self.day else 0
        self.ids[key] = (hold.position, ending)

    # --- days, expiry and groups --------------------------------------------------------------------------------------

    def begin_day(self, day: int, year: int) -> None:
        """Begin a business day of a year."""
        for account in self.accounts.values():
            account.day_used = 0
            account.year_used = account.year_used if year == self.year else 0
        self.day, self.year = day, year
        self.year_of[day] = year

    def due(self, now: int) -> list[tuple[Key, bool]]:
        """Give the keys of the open holds whose deadline has come, by (deadline, id, party), and whether in a group.

        Of a group only the first is named.
        """
        found = [
            (hold.deadline, identifier, party)
            for (party, identifier), hold in self.holds.items()
            if not hold.bound and self._is_over((party, identifier), now)
        ]
        named: list[tuple[Key, bool]] = []
        over: set[Key] = set()
        for _, identifier, party in sorted(found):
            circle = self.holds[party, identifier].circle
            if (party, identifier) not in over:
                named.append(((party, identifier), bool(circle)))
                over.update(circle)
        return named

    def members(self, group: int) -> dict[Key, Hold]:
        """Give the living holds of a group."""
        return {key: hold for key, hold in self.holds.items() if hold.group == group}
