"""The money of one ledger: accounts with their gross counters, living holds, and the registry of ids.

``State`` owns the arrays the kernel (``ledger.posting``) works on and makes room in them; it applies nothing itself.
An account's number is the order of its opening, from 1. Where a hold lies in its table, how large a table is and how
ids are hashed is visible in no result: ``money_digest`` covers the money and nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ledger.accounts import ACCOUNT_NUMBER_MAX, AccountFlag
from ledger.errors import InvariantViolation, NotFound, Rejected
from ledger.holds import (
    ACCOUNT_COUNT,
    BOUND,
    DEADLINE,
    DEADLINE_COUNT,
    FREE,
    FREE_COUNT,
    HOLD,
    HOLD_COUNT,
    HOLD_TOP,
    OPEN,
)
from ledger.registry import Array, Entry, Growable, IdStatus, Registry
from ledger.transfers import TRANSFER, id_halves

__all__ = ["ACCOUNT", "HOLD", "AccountView", "AssetTotal", "State"]

ACCOUNT = np.dtype(
    [
        ("debits_pending", "<i8"),
        ("debits_posted", "<i8"),
        ("credits_pending", "<i8"),
        ("credits_posted", "<i8"),
        ("last", "<u8"),
        ("minimum", "<i8"),
        ("owner", "<u4"),
        ("asset", "<u2"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("reserved", "<u2"),
        ("reserved_2", "<u4"),
    ]
)
"""One account, 64 bytes. ``last``: 1 + position of the last record that touched it, 0 if none."""

_MINIMUM_LIMIT = 2**63
_OPENING_FLAGS = int(AccountFlag.CREDIT_NORMAL | AccountFlag.LIMITED)  # plain: the complement of an IntFlag is partial
_DIGEST_TAG = b"hugang/money/0\0"


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account as it stands now; amounts in minor units."""

    number: int
    owner: int
    asset: int
    code: int
    flags: AccountFlag
    minimum: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    last: int

    @property
    def is_credit_normal(self) -> bool:
        """Whether the balance is credits minus debits."""
        return bool(self.flags & AccountFlag.CREDIT_NORMAL)

    @property
    def is_closed(self) -> bool:
        """Whether new transfers and holds are refused."""
        return bool(self.flags & AccountFlag.CLOSED)

    @property
    def balance(self) -> int:
        """The posted balance on the account's normal side."""
        posted = self.credits_posted - self.debits_posted
        return posted if self.is_credit_normal else -posted

    @property
    def available(self) -> int:
        """The posted balance minus what is pending to flow out: what a limit watches (I4)."""
        return self.balance - (self.debits_pending if self.is_credit_normal else self.credits_pending)


@dataclass(frozen=True, slots=True)
class AssetTotal:
    """One line of the trial balance: the sums over all accounts of an asset."""

    asset: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int


class Scratch:
    """Working memory of the kernel, kept from call to call; what it holds between calls means nothing."""

    def __init__(self) -> None:
        """Start small."""
        self.fingerprints: Array = np.empty((16, 2), np.uint32)
        self.saved: Array = np.empty(16, TRANSFER)
        self.ended: Array = np.empty(16, np.uint32)

    def reserve(self, count: int) -> None:
        """Make room for the fingerprints of ``count`` commands."""
        if count > len(self.fingerprints):
            self.fingerprints = np.empty((2 * count, 2), np.uint32)

    def reserve_chain(self, length: int) -> None:
        """Make room for taking back a chain of ``length`` commands."""
        if length > len(self.saved):
            self.saved = np.empty(2 * length, TRANSFER)
            self.ended = np.empty(2 * length, np.uint32)


class State:
    """Accounts, holds and ids of one ledger. One thread writes; readers look while nobody writes."""

    def __init__(self, hash_key: bytes) -> None:
        """Start with no account. ``hash_key``: at least 16 secret bytes for the registry of ids.

        Raises:
            InvariantViolation: the key is too short.
        """
        self.registry = Registry(hash_key)
        self.control = np.zeros(5, np.int64)
        self.account_rows: Array = np.zeros(16, ACCOUNT)
        self.hold_table = Growable(HOLD, 16)
        self.hold_entries = Growable(np.uint32, 16)
        self.free_slots = Growable(np.uint32, 16)
        self.deadlines = Growable(DEADLINE, 16)
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

    def open_account(self, *, owner: int, asset: int, code: int, flags: AccountFlag, minimum: int = 0) -> int:
        """Open an account and give its number.

        Args:
            owner: number of the party that may debit it.
            asset: number of the asset, from 1.
            code: what the account is for; given meaning by the layer above.
            flags: normal side and limit.
            minimum: what a limited account's available balance must not fall below, in minor units.

        Raises:
            InvariantViolation: a number is out of its range, or the account would be born closed.
        """
        number = self.account_count + 1
        if not (number <= ACCOUNT_NUMBER_MAX and 0 <= owner < 2**32 and 0 < asset < 2**16 and 0 <= code < 2**16):
            raise InvariantViolation("an account's number, owner, asset or code is out of range")
        if not -_MINIMUM_LIMIT < minimum < _MINIMUM_LIMIT or int(flags) & ~_OPENING_FLAGS:
            raise InvariantViolation("an account's minimum or flags are out of range")
        if number == len(self.account_rows):
            rows = np.zeros(2 * number, ACCOUNT)
            rows[:number] = self.account_rows
            self.account_rows = rows
        row = self.account_rows[number]
        row["owner"], row["asset"], row["code"], row["flags"], row["minimum"] = owner, asset, code, flags, minimum
        self.control[ACCOUNT_COUNT] = number
        return number

    def close_account(self, number: int) -> None:
        """Close an account: from now on it takes no new transfer and no new hold.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``. Rejected: ``ACCOUNT_CLOSED`` already, ``ACCOUNT_PENDING``: something is
                pending, ``ACCOUNT_NOT_EMPTY``: there is a balance.
        """
        account = self.account(number)
        if account.is_closed:
            raise Rejected("ACCOUNT_CLOSED", "The account is closed already.", account=number)
        if account.debits_pending or account.credits_pending:
            raise Rejected("ACCOUNT_PENDING", "An account with pending amounts cannot be closed.", account=number)
        if account.balance:
            raise Rejected("ACCOUNT_NOT_EMPTY", "An account with a balance cannot be closed.", account=number)
        self.account_rows[number]["flags"] |= AccountFlag.CLOSED

    def reopen_account(self, number: int) -> None:
        """Open a closed account again.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
            Rejected: ``ACCOUNT_OPEN``: it is not closed.
        """
        account = self.account(number)
        if not account.is_closed:
            raise Rejected("ACCOUNT_OPEN", "The account is not closed.", account=number)
        self.account_rows[number]["flags"] ^= AccountFlag.CLOSED

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
            for table in (self.hold_table, self.hold_entries, self.free_slots):
                table.grow(2 * needed)
        self.reserve_deadlines(hold_count)

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
        accounts = self.accounts[1:]
        return [
            AssetTotal(
                asset=int(asset),
                debits_posted=_sum(accounts["debits_posted"][accounts["asset"] == asset]),
                credits_posted=_sum(accounts["credits_posted"][accounts["asset"] == asset]),
                debits_pending=_sum(accounts["debits_pending"][accounts["asset"] == asset]),
                credits_pending=_sum(accounts["credits_pending"][accounts["asset"] == asset]),
            )
            for asset in np.unique(accounts["asset"])
        ]

    def check(self) -> None:
        """Check what must hold over the whole state.

        Raises:
            InvariantViolation: I2 (debits and credits differ), I3 (a counter is negative or too large), pending
                counters differ from the living holds, a hold and its id do not know each other, or the index of ids
                is wrong.
        """
        for total in self.trial_balance():
            if total.debits_posted != total.credits_posted or total.debits_pending != total.credits_pending:
                raise InvariantViolation(f"I2: debits and credits of asset {total.asset} differ")
        accounts = self.accounts
        for side in ("debits", "credits"):
            pending, posted = accounts[side + "_pending"], accounts[side + "_posted"]
            if np.any(pending < 0) or np.any(posted < 0) or np.any(posted > np.iinfo(np.int64).max - pending):
                raise InvariantViolation(f"I3: a counter of {side} is negative or reaches 2^63")
        if accounts[0].tobytes() != bytes(ACCOUNT.itemsize):
            raise InvariantViolation("account 0 was touched")
        self._check_holds()
        self.registry.check()

    def _check_holds(self) -> None:
        holds, accounts = self.holds, self.accounts
        for side in ("debit", "credit"):
            expected = np.zeros(len(accounts), np.int64)
            np.add.at(expected, holds[side], holds["amount"])
            if np.any(expected != accounts[side + "s_pending"]):
                raise InvariantViolation(f"I2: pending {side}s differ from the living holds")
        if len(holds) != self.hold_count or np.any(holds["amount"] <= 0):
            raise InvariantViolation("the living holds are not as many as were counted, or one is empty")
        table = self.hold_table.array[: self.control[HOLD_TOP]]
        free = self.free_slots.array[: self.control[FREE_COUNT]]
        if not np.array_equal(np.sort(free), np.flatnonzero(table["status"] == FREE)):
            raise InvariantViolation("the free slots are not those without a hold")
        slots = np.flatnonzero(table["status"])
        entries = self.registry.entries[self.hold_entries.array[slots]]
        for name in ("id_hi", "id_lo", "party"):
            if np.any(entries[name] != table[name][slots]):
                raise InvariantViolation("a hold does not know its id")
        if np.any(entries["low"] != slots) or np.any(entries["tag"] & 15 != IdStatus.HOLD_OPEN):
            raise InvariantViolation("an id does not know its hold")

    def money_digest(self) -> bytes:
        """Give SHA-256 over the money: all accounts and, in order of position, the living holds, in their dtypes.

        Equal for equal money, whatever slots, capacities, hash key or used-up ids (I9).
        """
        holds = self.holds
        digest = hashlib.sha256(_DIGEST_TAG)
        digest.update(self.account_count.to_bytes(8, "little") + len(holds).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(self.accounts[1:]).tobytes())
        digest.update(holds.tobytes())
        return digest.digest()

    def copy(self) -> State:
        """Give an independent copy."""
        result = object.__new__(State)
        result.registry = self.registry.copy()
        result.control = self.control.copy()
        result.account_rows = self.account_rows.copy()
        result.hold_table = self.hold_table.copy()
        result.hold_entries = self.hold_entries.copy()
        result.free_slots = self.free_slots.copy()
        result.deadlines = self.deadlines.copy()
        result.scratch = Scratch()
        return result


def _sum(counters: Array) -> int:
    """Add up counters exactly: each is below 2^63, their sum may not be."""
    return (int(np.sum(counters >> 32)) << 32) + int(np.sum(counters & 0xFFFFFFFF))
