"""The test clock: a ledger that its genesis made for tests can be moved on in time.

Every block of such a ledger bears the real time and the sum of all moves so far; a move is a message like any other,
so a replay knows the sum and asks no clock. It counts from the next block on. What is due by then expires at that
block's head, and rules that have come to hold begin there. Time never goes back. Whether a request is fresh is judged
by real time: nobody signs for tomorrow.
"""

from __future__ import annotations

from ledger.errors import Forbidden, Rejected
from ledger.machine import Admitted, Context, Machine
from ledger.meters import business_day
from ledger.parties import Role
from ledger.posting import TIMESTAMP_LIMIT
from settlement.bodies import ClockBody
from settlement.book import Book
from settlement.opening import require_role

__all__ = ["DAY_MAX", "authorise_clock", "execute_clock"]

DAY_MAX = business_day(TIMESTAMP_LIMIT) - 400
"""The last business day that a clock can be moved to: after it real time has more than a year to go on."""
_SECOND_NS = 1_000_000_000


def authorise_clock(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a registrar move the clock of a ledger on whose genesis permits it.

    How far it may go counts from the real time of the block and all moves so far, those of the same block included.

    Raises:
        Forbidden: ``ROLE_MISSING``, ``CLOCK_REAL``.
        Rejected: ``CLOCK_RANGE``.
    """
    body: ClockBody = admitted.content
    require_role(machine.directory, admitted.party, Role.REGISTRAR)
    if not machine.genesis.test_clock:
        raise Forbidden("CLOCK_REAL", "The genesis of this ledger gives it no test clock.")
    if business_day(machine.real_ns + book.clock_offset_ns + body.advance_s * _SECOND_NS) > DAY_MAX:
        raise Rejected("CLOCK_RANGE", "The clock would leave the calendar of the ledger.")


def execute_clock(book: Book, admitted: Admitted, _context: Context) -> None:
    """Move the clock on, from the next block."""
    body: ClockBody = admitted.content
    book.clock_offset_ns += body.advance_s * _SECOND_NS
