"""Posting: commands become records, in exactly the order in which they come.

``post`` applies commands to a ``State`` in place, with the effect of doing them one by one. Nothing here reads a
clock, does IO or makes a Python object for a transfer. The same source runs compiled or, with ``compiled=False``, as
a plain Python loop.

Each command is checked in the order of ``PRECEDENCE``; the first rule it breaks is its result. A refusal changes no
money: it uses up the command's id and fails its chain. Chains (``Flag.LINKED``) are applied member by member and
taken back as a whole when a member is refused, so a member sees what the members before it did.

What may refuse a POST is checked when the hold is made: pending amounts count for the overflow of both accounts and
against the limit of the side they draw on. That is why a POST, VOID or EXPIRE of a living hold can only be refused
for what it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ledger.compiled import plain
from ledger.errors import InvariantViolation
from ledger.groups import STAY, group_bind, group_holds, group_move, group_post, group_release, group_void
from ledger.holds import due_slots, first_of_circles
from ledger.kernel import apply_commands, survey
from ledger.registry import POSITION_LIMIT
from ledger.reversals import Recall, find_originals, recalled
from ledger.state import State
from ledger.transfers import NO_MESSAGE, TRANSFER, Flag, Result, Transfers, transfers

__all__ = [
    "DUE_COUNT_MAX",
    "PRECEDENCE",
    "STAY",
    "TIMESTAMP_LIMIT",
    "due",
    "group_bind",
    "group_holds",
    "group_move",
    "group_post",
    "group_release",
    "group_void",
    "post",
]

PRECEDENCE: tuple[Result, ...] = (
    Result.CHAIN_OPEN,
    Result.LINKED_FAILED,
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
)
"""Which refusal a command gets when it earns several: the first of these. A result it arrives with goes before all."""

DUE_COUNT_MAX = 2**20
"""Holds that expire at the head of one block, half of what a block can hold; the next block goes on with the others."""
TIMESTAMP_LIMIT = 2**62
"""The first instant that no block can bear, in February 2116: a timestamp plus the longest timeout stays below 2^63."""

_Kernels = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]
"""``survey``, ``find_originals`` and ``apply_commands``, compiled or plain."""


def post(
    state: State,
    commands: Transfers,
    *,
    timestamp_ns: int,
    first_position: int,
    recall: Recall | None = None,
    compiled: bool = True,
) -> None:
    """Apply commands in order, each with exactly the effect it would have alone, and make them records in place.

    ``commands[i]`` gets journal position ``first_position + i``. Filled in: ``result``; for what is applied also
    ``debit_previous``, ``credit_previous`` (zero on a refusal, but for ID_EXISTS) and the applied amount; for POST,
    VOID and EXPIRE also what their hold knows: ``debit``, ``credit``, ``group``, ``member``. A command that arrives
    with a result is refused with it.

    Args:
        state: changed in place.
        commands: dtype ``TRANSFER``, one-dimensional, contiguous, writeable.
        timestamp_ns: the block's instant, below ``TIMESTAMP_LIMIT``; holds made now get their deadline from it.
        first_position: journal position of the first command.
        recall: reads records of the journal from before ``first_position``; asked only when a transfer is reversed that
            was not reversed before.
        compiled: ``False`` runs the same source as a plain Python loop, some thousand times slower.

    Raises:
        InvariantViolation: an argument is not of its form, or there is nothing to recall from; nothing has changed.
        IntegrityFailure: what was recalled is not what the ids say; nothing has changed.
    """
    _check_arguments(commands, timestamp_ns, first_position)
    if not len(commands):
        return
    kernels: _Kernels = (survey, find_originals, apply_commands)
    if compiled:
        _run(state, commands, timestamp_ns, first_position, recall=recall, kernels=kernels)
    else:
        kernels = (plain(survey), plain(find_originals), plain(apply_commands))
        with np.errstate(over="ignore"):  # the hash wraps on purpose, of which plain numpy integers would warn
            _run(state, commands, timestamp_ns, first_position, recall=recall, kernels=kernels)


def _run(
    state: State,
    commands: Transfers,
    timestamp_ns: int,
    first_position: int,
    *,
    recall: Recall | None,
    kernels: _Kernels,
) -> None:
    """Make room, recall what is reversed for the first time, then apply."""
    look_over, find_first_reversed, apply = kernels
    registry, scratch = state.registry, state.scratch
    scratch.reserve(len(commands))
    keys, fingerprints = (registry.key_0, registry.key_1), (scratch.own, scratch.named)
    hold_count, longest, all_flags = look_over(commands, *keys, *fingerprints)
    originals = scratch.no_originals
    if all_flags & Flag.REVERSAL:
        originals = recalled(state, commands, scratch.named, recall, find_first_reversed)
    scratch.reserve_chain(longest)
    state.reserve(id_count=len(commands), hold_count=hold_count)
    # Two accounts a record; and of each hold that ends with its group.
    state.reserve_points(2 * (len(commands) + (state.hold_count + hold_count if all_flags & Flag.GROUP else 0)))
    if all_flags & Flag.REVERSAL:
        state.reserve_reversals(len(commands))
    apply(
        commands,
        *fingerprints,
        scratch.saved,
        scratch.ended,
        state.account_rows,
        state.meters.array,
        state.class_rows,
        state.points.array,
        state.hold_table.array,
        state.hold_links.array,
        state.free_slots.array,
        state.deadlines.array,
        state.reversals.array,
        originals,
        state.control,
        registry.entries,
        registry.index,
        registry.control,
        timestamp_ns,
        first_position,
    )


def due(state: State, timestamp_ns: int) -> Transfers:
    """Give the EXPIRE commands for open holds whose deadline has come, in order of (deadline, id, party).

    Of a hold group only its first hold in this order is named, with GROUP: the others end with it. No more than
    ``DUE_COUNT_MAX`` at once: an outage could make any number due together, and all of them would fit no block. One
    that waits for the next block can be neither posted nor voided any more.

    They carry no id of their own; the caller posts them at the head of a block. No money changes. A bound hold is never
    due. Costs one comparison when nothing is due, otherwise time in proportion to what is due, and a sort of it.
    """
    if not state.is_due(timestamp_ns):
        return transfers(0)
    table, links = state.hold_table.array, state.hold_links.array
    slots = due_slots(state.deadlines.array, state.control, table, timestamp_ns)
    holds = table[slots]
    slots = slots[np.lexsort((holds["party"], holds["id_lo"], holds["id_hi"], holds["deadline"]))]
    if np.any(links["next"][slots] != slots):
        slots = slots[first_of_circles(slots, links, len(table))]
    slots = slots[:DUE_COUNT_MAX]
    holds = table[slots]
    commands = transfers(len(holds))
    commands["related_hi"], commands["related_lo"] = holds["id_hi"], holds["id_lo"]
    commands["party"] = holds["party"]
    commands["flags"] = np.where(links["next"][slots] != slots, Flag.EXPIRE | Flag.GROUP, Flag.EXPIRE)
    commands["message"] = NO_MESSAGE
    return commands


def _check_arguments(commands: Transfers, timestamp_ns: int, first_position: int) -> None:
    """The kernel trusts what it is given: no bounds are checked inside."""
    flags = commands.flags
    if commands.dtype != TRANSFER or commands.ndim != 1 or not flags.c_contiguous or not flags.writeable:
        raise InvariantViolation("commands are a writeable contiguous array of TRANSFER")
    if not 0 <= timestamp_ns < TIMESTAMP_LIMIT:
        raise InvariantViolation(f"timestamp {timestamp_ns} is out of range")
    if not 0 <= first_position <= POSITION_LIMIT - len(commands):
        raise InvariantViolation(f"position {first_position} is out of range")
