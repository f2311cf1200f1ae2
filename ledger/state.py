"""The money of one ledger: accounts with their counters and limits, living holds, reversals, and the registry of ids.

``State`` owns the arrays the kernel (``ledger.posting``) works on and makes room in them; it applies nothing itself.
An account's number is the order of its opening, from 1. Where a hold lies in its table, how large a table is and how
ids are hashed is visible in no result: ``money_digest`` covers the money and nothing else.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ledger.accounts import ACCOUNT_NUMBER_MAX, AccountFlag
from ledger.balances import ACCOUNT, AccountLimits, AccountView, AssetTotal, trial_balance
from ledger.control import (
    ACCOUNT_COUNT,
    BUSINESS_DAY,
    DEADLINE_COUNT,
    FREE_COUNT,
    HOLD_COUNT,
    HOLD_TOP,
    METER_COUNT,
    POINT_COUNT,
    REVERSAL_COUNT,
    SIZE,
    YEAR_START,
)
from ledger.errors import InvariantViolation, NotFound, Rejected
from ledger.holds import BOUND, DEADLINE, FREE, HOLD, HOLD_LINK, OPEN
from ledger.meters import CLASS_LIMIT, METER, UNLIMITED, ClassLimits, year_start
from ledger.points import POINT
from ledger.registry import Array, Entry, Growable, IdStatus, Registry, aligned_zeros
from ledger.reversals import REVERSAL
from ledger.soundness import check_state
from ledger.transfers import TRANSFER, id_halves

__all__ = ["ACCOUNT", "HOLD", "AccountLimits", "AccountView", "AssetTotal", "State"]

_LIMIT_BOUND = 2**63
_BUSINESS_DAY_MAX = 2**16 - 2  # a hold remembers the day after it in 16 bits
_OPENING_FLAGS = int(AccountFlag.CREDIT_NORMAL | AccountFlag.LIMITED)  # plain: the complement of an IntFlag is partial
_DIGEST_TAG = b"hugang/money/1\0"


class Scratch:
    """Working memory of the kernel, kept from call to call; what it holds between calls means nothing."""

    def __init__(self) -> None:
        """Start small."""
        self.own: Array = np.empty(16, np.uint32)
        self.named: Array = np.empty(16, np.uint32)
        self.saved: Array = np.empty(16, TRANSFER)
        self.ended: Array = np.empty(16, np.int64)
        self.no_originals: Array = np.empty(0, REVERSAL)

    def reserve(self, count: int) -> None:
        """Make room for the fingerprints of ``count`` commands: of their own ids, and of those they name."""
        if count > len(self.own):
            self.own, self.named = np.empty((2, 2 * count), np.uint32)

    def reserve_chain(self, length: int) -> None:
        """Make room for taking back a chain of ``length`` commands."""
        if length > len(self.saved):
            self.saved = np.empty(2 * length, TRANSFER)
            self.ended = np.empty(2 * length, np.int64)


class State:
    """Accounts, holds, reversals and ids of one ledger. One thread writes; readers look while nobody writes."""

    def __init__(self, hash_key: bytes) -> None:
        """Start with no account. ``hash_key``: at least 16 secret bytes for the registry of ids.

        Raises:
            InvariantViolation: the key is too short.
        """
        self.registry = Registry(hash_key)
        self.control = np.zeros(SIZE, np.int64)
        self.account_rows: Array = aligned_zeros(16, ACCOUNT)
        self.meters = Growable(METER, 16)
        self.class_rows: Array = _unlimited(1)
        self.hold_table = Growable(HOLD, 16)
        self.hold_links = Growable(HOLD_LINK, 16)
        self.free_slots = Growable(np.uint32, 16)
        self.deadlines = Growable(DEADLINE, 16)
        self.reversals = Growable(REVERSAL, 16)
        self.points = Growable(POINT, 16)
        self.scratch = Scratch()

    # --- accounts ---------------------------------------------------------------------------------------------------

    @property
    def accounts(self) -> Array:
        """The accounts, dtype ``ACCOUNT``, by number (row 0 is none); read-only, valid until the next change."""
        view = self.account_rows[: self.account_count + 1]
        view.flags.writeable = False
        return view

    @property
    def account_count(self) -> int:
        """How many accounts have been opened."""
        return int(self.control[ACCOUNT_COUNT])

    def open_account(
        self,
        *,
        owner: int,
        asset: int,
        code: int,
        flags: AccountFlag,
        minimum: int = 0,
        maximum: int | None = None,
        klass: int = 0,
    ) -> int:
        """Open an account and give its number.

        Args:
            owner: number of the party that may debit it.
            asset: number of the asset, from 1.
            code: what the account is for; given meaning by the layer above.
            flags: normal side, and whether there is a minimum; what else limits it follows from the arguments below.
            minimum: what a limited account's available balance must not fall below, in minor units.
            maximum: what its balance must not rise above, ``None`` for no maximum of its own; makes it capped.
            klass: its class of limits, 0 for none; makes it capped and metered.

        Raises:
            InvariantViolation: a number is out of its range, the account would be born closed, there is no such class,
                or a debit-normal account would have one.
        """
        number = self.account_count + 1
        if not (number <= ACCOUNT_NUMBER_MAX and 0 <= owner < 2**32 and 0 < asset < 2**16 and 0 <= code < 2**16):
            raise InvariantViolation("an account's number, owner, asset or code is out of range")
        if int(flags) & ~_OPENING_FLAGS:
            raise InvariantViolation("an account's flags are out of range")
        _check_limit(minimum)
        _check_limit(maximum or 0)
        self._check_class(klass, flags)
        if number == len(self.account_rows):
            rows = aligned_zeros(2 * number, ACCOUNT)
            rows[:number] = self.account_rows
            self.account_rows = rows
        row = self.account_rows[number]
        row["owner"], row["asset"], row["code"], row["flags"], row["minimum"] = owner, asset, code, flags, minimum
        self.control[ACCOUNT_COUNT] = number
        if maximum is not None:
            self._meter_of(number, AccountFlag.CAPPED)["maximum"] = maximum
        if klass:
            self._meter_of(number, AccountFlag.CAPPED | AccountFlag.METERED)["class"] = klass
        return number

    def set_limit(self, number: int, *, minimum: int | None = None, maximum: int | None = None) -> None:
        """Change the limits of an open account; ``None`` leaves one as it is.

        A minimum makes it a limited account, a maximum a capped one. The balance may lie beyond a new limit already:
        then it can only come nearer to it.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
            Rejected: ``ACCOUNT_CLOSED``.
            InvariantViolation: a limit is out of range.
        """
        self._require_open(number)
        _check_limit(minimum or 0)
        _check_limit(maximum or 0)
        if minimum is not None:
            self.account_rows[number]["minimum"] = minimum
            self.account_rows[number]["flags"] |= AccountFlag.LIMITED
        if maximum is not None:
            self._meter_of(number, AccountFlag.CAPPED)["maximum"] = maximum

    def set_class(self, number: int, klass: int) -> None:
        """Give an open account another class of limits; what its meter has counted stays. Class 0 limits nothing.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
            Rejected: ``ACCOUNT_CLOSED``.
            InvariantViolation: there is no such class, or the account is debit-normal.
        """
        account = self._require_open(number)
        self._check_class(klass, account.flags)
        if klass or self.account_rows[number]["meter"]:
            self._meter_of(number, AccountFlag.CAPPED | AccountFlag.METERED)["class"] = klass

    def set_class_limits(self, klass: int, limits: ClassLimits) -> None:
        """Set the limits of a class, for all its accounts from now on; a class exists from then on.

        Raises:
            InvariantViolation: the number or a limit is out of range; class 0 cannot be changed.
        """
        values = (limits.maximum, limits.item_max, limits.day_max, limits.year_max)
        if not 0 < klass < 2**16 or not all(0 <= value <= UNLIMITED for value in values):
            raise InvariantViolation("a class's number or one of its limits is out of range")
        if klass >= len(self.class_rows):
            rows = _unlimited(klass + 1)
            rows[: len(self.class_rows)] = self.class_rows
            self.class_rows = rows
        self.class_rows[klass] = values

    def class_limits(self, klass: int) -> ClassLimits:
        """Give the limits of a class; those of class 0 are none.

        Raises:
            InvariantViolation: there is no such class.
        """
        self._check_class(klass, AccountFlag.CREDIT_NORMAL)
        row = self.class_rows[klass]
        return ClassLimits(*(int(row[name]) for name in CLASS_LIMIT.names or ()))

    def limits(self, number: int) -> AccountLimits:
        """Give what limits an account, and how much of it is used up.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
        """
        account = self.account(number)
        meter = self.meters.array[self.account_rows[number]["meter"]]
        has_maximum = bool(self.account_rows[number]["meter"]) and meter["maximum"] != UNLIMITED
        return AccountLimits(
            minimum=account.minimum if account.flags & AccountFlag.LIMITED else None,
            maximum=int(meter["maximum"]) if has_maximum else None,
            klass=int(meter["class"]),
            day_used=int(meter["day_used"]),
            year_used=int(meter["year_used"]),
        )

    def _meter_of(self, number: int, flags: AccountFlag) -> np.void:
        """Give an account's meter, a new one if it has none; the account gets the flags that need it."""
        account = self.account_rows[number]
        account["flags"] |= flags
        if not account["meter"]:
            index = int(self.control[METER_COUNT]) + 1
            if index == len(self.meters.array):
                self.meters.grow(2 * index)
            self.meters.array[index] = (UNLIMITED, 0, 0, number, 0, 0)
            self.control[METER_COUNT] = index
            account["meter"] = index
        meter: np.void = self.meters.array[account["meter"]]
        return meter

    def _check_class(self, klass: int, flags: AccountFlag) -> None:
        if not 0 <= klass < len(self.class_rows):
            raise InvariantViolation(f"there is no class {klass}")
        if klass and not flags & AccountFlag.CREDIT_NORMAL:
            raise InvariantViolation("only a credit-normal account can have a class")

    def _require_open(self, number: int) -> AccountView:
        account = self.account(number)
        if account.is_closed:
            raise Rejected("ACCOUNT_CLOSED", "The account is closed already.", account=number)
        return account

    # --- the business day -------------------------------------------------------------------------------------------

    @property
    def business_day(self) -> int:
        """The business day up to which meters count, in days since 1970-01-01."""
        return int(self.control[BUSINESS_DAY])

    def begin_day(self, day: int) -> None:
        """Begin a later business day: every meter of the day starts again, and in a new year every meter of the year.

        Raises:
            InvariantViolation: the day is not later, or out of range.
        """
        if not self.business_day < day <= _BUSINESS_DAY_MAX:
            raise InvariantViolation(f"business day {day} cannot follow {self.business_day}")
        first = year_start(day)
        meters = self.meters.array[: self.control[METER_COUNT] + 1]
        meters["day_used"] = 0
        if first != self.control[YEAR_START]:
            meters["year_used"] = 0
        self.control[BUSINESS_DAY], self.control[YEAR_START] = day, first

    def close_account(self, number: int) -> None:
        """Close an account: from now on it takes no new transfer and no new hold.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``. Rejected: ``ACCOUNT_CLOSED`` already, ``ACCOUNT_PENDING``: something is
                pending, ``ACCOUNT_NOT_EMPTY``: there is a balance.
        """
        self.check_closable(number)
        self.account_rows[number]["flags"] |= AccountFlag.CLOSED

    def check_closable(self, number: int) -> None:
        """Let pass only an account that ``close_account`` closes.

        Raises:
            NotFound: as ``close_account`` does. Rejected: the same.
        """
        account = self._require_open(number)
        if account.debits_pending or account.credits_pending:
            raise Rejected("ACCOUNT_PENDING", "An account with pending amounts cannot be closed.", account=number)
        if account.balance:
            raise Rejected("ACCOUNT_NOT_EMPTY", "An account with a balance cannot be closed.", account=number)

    def reopen_account(self, number: int) -> None:
        """Open a closed account again.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
            Rejected: ``ACCOUNT_OPEN``: it is not closed.
        """
        self.check_reopenable(number)
        self.account_rows[number]["flags"] ^= AccountFlag.CLOSED

    def check_reopenable(self, number: int) -> None:
        """Let pass only an account that ``reopen_account`` opens again.

        Raises:
            NotFound: as ``reopen_account`` does. Rejected: the same.
        """
        if not self.account(number).is_closed:
            raise Rejected("ACCOUNT_OPEN", "The account is not closed.", account=number)

    def account(self, number: int) -> AccountView:
        """Give an account as it stands now.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
        """
        if not 0 < number <= self.account_count:
            raise NotFound("ACCOUNT_NOT_FOUND", "No such account on this ledger.", account=number)
        row = self.account_rows[number]
        return AccountView(
            number=number,
            owner=int(row["owner"]),
            asset=int(row["asset"]),
            code=int(row["code"]),
            flags=AccountFlag(int(row["flags"])),
            minimum=int(row["minimum"]),
            debits_pending=int(row["debits_pending"]),
            debits_posted=int(row["debits_posted"]),
            credits_pending=int(row["credits_pending"]),
            credits_posted=int(row["credits_posted"]),
            last=int(row["last"]),
        )

    def balance(self, number: int) -> int:
        """Give the posted balance of an account on its normal side, in minor units.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
        """
        return self.account(number).balance

    # --- holds and ids ----------------------------------------------------------------------------------------------

    @property
    def hold_count(self) -> int:
        """How many holds live."""
        return int(self.control[HOLD_COUNT])

    @property
    def holds(self) -> Array:
        """The living holds in order of position, dtype ``HOLD``: a copy."""
        table = self.hold_table.array[: self.control[HOLD_TOP]]
        return self.holds_at(np.flatnonzero(table["status"] != FREE))

    def holds_at(self, slots: Array) -> Array:
        """Give the holds in these slots in order of position, dtype ``HOLD``: a copy."""
        table = self.hold_table.array
        order = np.argsort(table["position"][slots])
        # Taken as opaque bytes: numpy would copy rows of a structured array field by field.
        rows: Array = np.take(table.view(f"V{HOLD.itemsize}"), slots[order]).view(HOLD)
        return rows

    def hold(self, party: int, identifier: int) -> np.void | None:
        """Give the living hold with this id, dtype ``HOLD``, ``None`` if there is none: a copy."""
        found = self.registry.look_up(party, id_halves(identifier))
        if found is None or found[2] != IdStatus.HOLD_OPEN:
            return None
        row: np.void = self.hold_table.array[found[1]].copy()
        return row

    def lookup(self, party: int, identifier: int) -> Entry | None:
        """Give what became of an id of a party, ``None`` if it is unused."""
        found = self.registry.look_up(party, id_halves(identifier))
        if found is None:
            return None
        _, value, status = found
        if status == IdStatus.REVERSED:
            return Entry(int(self.reversals.array[value]["position"]), IdStatus.REVERSED)
        if status != IdStatus.HOLD_OPEN:
            return Entry(value, IdStatus(status))
        row = self.hold_table.array[value]
        return Entry(int(row["position"]), IdStatus.HOLD_BOUND if row["status"] == BOUND else IdStatus.HOLD_OPEN)

    def reserve(self, *, id_count: int, hold_count: int) -> None:
        """Make room for new ids and new holds, so that the kernel need not stop for it.

        Raises:
            InvariantViolation: a table would outgrow its numbers.
        """
        self.registry.reserve(id_count)
        needed = int(self.control[HOLD_TOP] - self.control[FREE_COUNT]) + hold_count
        if needed > len(self.hold_table.array):
            for table in (self.hold_table, self.hold_links, self.free_slots):
                table.grow(2 * needed)
        self.reserve_deadlines(hold_count)

    def reserve_points(self, count: int) -> None:
        """Make room for ``count`` more points."""
        needed = int(self.control[POINT_COUNT]) + count
        if needed > len(self.points.array):
            self.points.grow(2 * needed)

    def reserve_reversals(self, count: int) -> None:
        """Make room for the reversals of ``count`` more originals."""
        needed = int(self.control[REVERSAL_COUNT]) + count
        if needed > len(self.reversals.array):
            self.reversals.grow(needed + needed // 2)

    def take_points(self) -> Array:
        """Give the points that were written since the last call, dtype ``POINT``: a copy."""
        count = int(self.control[POINT_COUNT])
        self.control[POINT_COUNT] = 0
        return self.points.array[:count].copy()

    def is_due(self, timestamp_ns: int) -> bool:
        """Whether the earliest deadline in the heap has come; true also for a stale one."""
        return bool(self.control[DEADLINE_COUNT]) and bool(self.deadlines.array[0]["deadline"] <= timestamp_ns)

    def reserve_deadlines(self, count: int) -> None:
        """Make room for ``count`` more deadlines; stale ones are swept out when they are the majority."""
        size = int(self.control[DEADLINE_COUNT])
        if size + count <= len(self.deadlines.array):
            return
        if size > 2 * self.hold_count:
            size = self.sweep_deadlines()
        self.deadlines.grow(2 * (size + count))

    def sweep_deadlines(self) -> int:
        """Build the heap anew from the open holds and give its size. In order of deadline it is a heap."""
        table = self.hold_table.array[: self.control[HOLD_TOP]]
        slots = np.flatnonzero((table["status"] == OPEN) & (table["deadline"] != 0))
        slots = slots[np.argsort(table["deadline"][slots], kind="stable")]
        self.deadlines.grow(len(slots))
        fresh = self.deadlines.array[: len(slots)]
        fresh["deadline"], fresh["position"] = table["deadline"][slots], table["position"][slots]
        fresh["slot"] = slots
        self.control[DEADLINE_COUNT] = len(slots)
        return len(slots)

    # --- the whole ----------------------------------------------------------------------------------------------------

    def trial_balance(self) -> list[AssetTotal]:
        """Give the sums over all accounts per asset, in order of asset (I2)."""
        return trial_balance(self.accounts[1:])

    def check(self) -> None:
        """Check what must hold over the whole state.

        Raises:
            InvariantViolation: I2 (debits and credits differ), I3 (a counter is negative or too large), pending
                counters differ from the living holds, a hold or a reversal and its id do not know each other, holds do
                not stand in circles, a meter counts what cannot be, or the index of ids is wrong.
        """
        check_state(self)

    def money_digest(self) -> bytes:
        """Give SHA-256 over the money: accounts, meters, classes, living holds and reversals, in their dtypes.

        Holds come in order of position, each with the position of the next one in its group; reversals in order of
        position. Equal for equal money, whatever slots, capacities, hash key or used-up ids (I9).
        """
        table = self.hold_table.array[: self.control[HOLD_TOP]]
        slots = np.flatnonzero(table["status"] != FREE)
        slots = slots[np.argsort(table["position"][slots])]
        reversals = self.reversals.array[: self.control[REVERSAL_COUNT]]
        reversals = reversals[np.argsort(reversals["position"])]
        meters = self.meters.array[1 : self.control[METER_COUNT] + 1]
        parts = (
            self.accounts[1:],
            meters,
            self.class_rows[1:],
            self.holds,
            table["position"][self.hold_links.array["next"][slots]],
            *(reversals[name] for name in ("position", "amount", "reversed", "debit", "credit")),
        )
        digest = hashlib.sha256(_DIGEST_TAG)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.digest()

    def copy(self) -> State:
        """Give an independent copy."""
        result = object.__new__(State)
        result.registry = self.registry.copy()
        result.control = self.control.copy()
        result.account_rows = aligned_zeros(len(self.account_rows), ACCOUNT)
        result.account_rows[:] = self.account_rows
        result.class_rows = self.class_rows.copy()
        for name in ("meters", "hold_table", "hold_links", "free_slots", "deadlines", "reversals", "points"):
            setattr(result, name, getattr(self, name).copy())
        result.scratch = Scratch()
        return result


def _unlimited(count: int) -> Array:
    """Give ``count`` classes without limits."""
    rows = np.empty(count, CLASS_LIMIT)
    for name in CLASS_LIMIT.names or ():
        rows[name] = UNLIMITED
    return rows


def _check_limit(limit: int) -> None:
    if not -_LIMIT_BOUND < limit < _LIMIT_BOUND:
        raise InvariantViolation("a limit of an account is out of range")
