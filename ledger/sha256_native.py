"""SHA-256 of rows of one width by the processor's own instructions for it (x86: SHA extensions), two rows at a time.

One round waits for the one before; two rows side by side fill that waiting (a third gains a tenth more, a fourth has
too few registers). Rows are read where they lie, without a copy: a *plan* says for each 16 bytes of the padded message
where in the row they come from, which of them do, and what stands in the others. Reading so touches up to 15 bytes
before and after a row; the first and the last row of a table, which have no neighbours, are hashed from a margin.

``ledger.sha256`` takes this where the processor has the instructions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped] # it has no types
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ledger.fips180 import BLOCK_SIZE, CONSTANTS, DIGEST_SIZE, LENGTH_SIZE, START

__all__ = ["WIDTH_MIN", "hash_rows"]

Bytes = npt.NDArray[np.uint8]

PAIR = 2
"""Rows hashed side by side."""
VECTOR_SIZE = 16
WIDTH_MIN = VECTOR_SIZE
"""Rows at least so wide hold what is read beside their neighbours."""
STEP = np.dtype([("offset", "<i8"), ("zero", "<i8"), ("taken", "u1", VECTOR_SIZE), ("fixed", "u1", VECTOR_SIZE)])
"""One vector of the plan: from where in the row, a mask of what is taken from there, and what stands beside it."""

_TOOLS: Any = cgutils  # a part of numba without types
_WORDS = ir.VectorType(ir.IntType(32), 4)
_BYTES = ir.VectorType(ir.IntType(8), VECTOR_SIZE)
_BIG_ENDIAN = (3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12)
_A, _B, _C, _D, _E, _F, _G, _H = START
# The instructions want the state's eight words in this order, lowest first.
_START = ((_F, _E, _B, _A), (_H, _G, _D, _C))


class _Instructions:
    """Writes the instructions for one vector of four words, or for one block of each row."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        pair, triple = (ir.FunctionType(_WORDS, [_WORDS] * count) for count in (2, 3))
        self.rounds = self._named("llvm.x86.sha256rnds2", triple)
        self.schedule_1 = self._named("llvm.x86.sha256msg1", pair)
        self.schedule_2 = self._named("llvm.x86.sha256msg2", pair)

    def _named(self, name: str, kind: Any) -> Any:
        return _TOOLS.get_or_insert_function(self.builder.module, kind, name)

    def words(self, values: Any) -> Any:
        return ir.Constant(_WORDS, list(values))

    def shuffled(self, one: Any, two: Any, places: Any) -> Any:
        kind = ir.VectorType(ir.IntType(32), len(places))
        return self.builder.shuffle_vector(one, two, ir.Constant(kind, list(places)))

    def moved(self, address: Any, distance: int) -> Any:
        return self.builder.add(address, ir.Constant(address.type, distance))

    def load(self, address: Any) -> Any:
        return self.builder.load(self.builder.inttoptr(address, _BYTES.as_pointer()), align=1)

    def store(self, address: Any, words: Any) -> None:
        """Store four words in the standard's order of bytes."""
        flat = self.builder.bitcast(words, _BYTES)
        target = self.builder.inttoptr(address, _BYTES.as_pointer())
        self.builder.store(self.shuffled(flat, flat, _BIG_ENDIAN), target, align=1)

    def message(self, row: Any, step: Any) -> Any:
        """Give four words of the padded message of a row, by one step of the plan."""
        offset = self.builder.load(self.builder.inttoptr(step, row.type.as_pointer()))
        taken, fixed = (self.load(self.moved(step, place)) for place in (VECTOR_SIZE, 2 * VECTOR_SIZE))
        found = self.builder.and_(self.load(self.builder.add(row, offset)), taken)
        found = self.builder.or_(found, fixed)
        return self.builder.bitcast(self.shuffled(found, found, _BIG_ENDIAN), _WORDS)

    def compress(self, states: list[list[Any]], blocks: list[list[Any]]) -> list[list[Any]]:
        """Write FIPS 180-4 §6.2.2 for one block of each row, four rounds of one and then of the other."""
        builder = self.builder
        now = [list(state) for state in states]
        for group in range(16):
            added = self.words(CONSTANTS[4 * group : 4 * group + 4])
            for state, words in zip(now, blocks, strict=True):
                here = [(group + distance) % 4 for distance in range(4)]
                ready = builder.add(words[here[0]], added)
                state[1] = builder.call(self.rounds, [state[1], state[0], ready])
                upper = self.shuffled(ready, ready, (2, 3, 0, 0))
                state[0] = builder.call(self.rounds, [state[0], state[1], upper])
                if group < 12:
                    first = builder.call(self.schedule_1, [words[here[0]], words[here[1]]])
                    middle = self.shuffled(words[here[2]], words[here[3]], (1, 2, 3, 4))
                    both = [builder.add(first, middle), words[here[3]]]
                    words[here[0]] = builder.call(self.schedule_2, both)
        return [
            [builder.add(old, new) for old, new in zip(before, after, strict=True)]
            for before, after in zip(states, now, strict=True)
        ]


@intrinsic
def _hash_pair(
    _typing: Any, _row: Any, _width: Any, _plan: Any, _block_count: Any, _output: Any
) -> tuple[Any, Callable[..., Any]]:
    """Hash two rows that lie one behind the other; all arguments but the numbers are addresses.

    The kernel below is the only caller, and vouches for everything that is read and written.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        row, width, plan, block_count, output = arguments
        write = _Instructions(builder)
        rows = [row, builder.add(row, width)]
        kept = [[_TOOLS.alloca_once_value(builder, write.words(half)) for half in _START] for _ in rows]
        for places in kept:
            for place, half in zip(places, _START, strict=True):
                builder.store(write.words(half), place)
        with _TOOLS.for_range(builder, block_count) as loop:
            size = ir.Constant(plan.type, BLOCK_SIZE // VECTOR_SIZE * STEP.itemsize)
            steps = builder.add(plan, builder.mul(loop.index, size))
            blocks = [
                [write.message(one, write.moved(steps, index * STEP.itemsize)) for index in range(4)] for one in rows
            ]
            states = [[builder.load(place) for place in places] for places in kept]
            for places, state in zip(kept, write.compress(states, blocks), strict=True):
                for place, half in zip(places, state, strict=True):
                    builder.store(half, place)
        for index, places in enumerate(kept):
            one, two = (builder.load(place) for place in places)
            write.store(write.moved(output, index * DIGEST_SIZE), write.shuffled(one, two, (3, 2, 7, 6)))
            write.store(write.moved(output, index * DIGEST_SIZE + 16), write.shuffled(one, two, (1, 0, 5, 4)))
        return context.get_dummy_value()

    return types.void(*[types.uintp] * 5), generate


_PLAN = types.Array(types.uint8, 2, "C", readonly=True)
_TABLE = types.Array(types.uint8, 2, "C", readonly=True)
_OUTPUT = types.Array(types.uint8, 2, "C")


@njit(types.void(_PLAN, _TABLE, _OUTPUT), nogil=True, cache=True)
def _hash_inner(plan: Bytes, rows: Bytes, output: Bytes) -> None:  # pragma: no cover - compiled
    """Write the digests of all rows but the first and the last; of an odd one left over twice, the same each time."""
    count, width = rows.shape
    block_count = plan.shape[0] // 4
    for start in range(1, count - 1, PAIR):
        first = min(start, count - 1 - PAIR)
        _hash_pair(  # type: ignore[call-arg] # without the typing context
            rows.ctypes.data + first * width,
            width,
            plan.ctypes.data,
            block_count,
            output.ctypes.data + first * DIGEST_SIZE,
        )


def hash_rows(prefix: Bytes, rows: Bytes, output: Bytes) -> None:
    """Write SHA-256(prefix || row) of each row; shapes are checked by the caller, and ``width >= WIDTH_MIN``."""
    count, width = rows.shape
    plan = _plan(prefix.tobytes(), width)
    if count >= 2 + PAIR:
        _hash_inner(plan, rows, output)
        ends = np.array([0, count - 1])
    else:
        ends = np.arange(count)
    # The ends have no neighbours that may be read: they get some.
    margin = np.zeros((2 + max(PAIR, len(ends)), width), np.uint8)
    inner = np.zeros((len(margin), DIGEST_SIZE), np.uint8)
    margin[1 : 1 + len(ends)] = rows[ends]
    _hash_inner(plan, margin, inner)
    output[ends] = inner[1 : 1 + len(ends)]


@functools.lru_cache(maxsize=64)
def _plan(prefix: bytes, width: int) -> Bytes:
    """Say where each 16 bytes of a padded message come from (FIPS 180-4 §5.1.1)."""
    size = len(prefix) + width
    block_count = (size + 1 + LENGTH_SIZE + BLOCK_SIZE - 1) // BLOCK_SIZE
    fixed, taken = np.zeros((2, block_count * BLOCK_SIZE), np.uint8)
    fixed[: len(prefix)] = np.frombuffer(prefix, np.uint8)
    fixed[size] = 0x80
    fixed[-LENGTH_SIZE:] = np.frombuffer((size * 8).to_bytes(LENGTH_SIZE, "big"), np.uint8)
    taken[len(prefix) : size] = 0xFF
    steps = np.zeros(block_count * BLOCK_SIZE // VECTOR_SIZE, STEP)
    steps["taken"], steps["fixed"] = taken.reshape(-1, VECTOR_SIZE), fixed.reshape(-1, VECTOR_SIZE)
    offsets = np.arange(len(steps)) * VECTOR_SIZE - len(prefix)
    steps["offset"] = np.where(steps["taken"].any(axis=1), offsets, 0)  # what is all fixed reads the row's beginning
    plan = steps.view(np.uint8).reshape(len(steps), STEP.itemsize)
    plan.flags.writeable = False
    return plan
