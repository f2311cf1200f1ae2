"""SHA-256 of rows of one width on any processor: sixteen lanes of FIPS 180-4 beside each other.

The compression function works on vectors of ``LANES`` 32-bit words: word *t* of sixteen messages is one vector, and
every step of the standard is one vector instruction or a few. LLVM maps the vectors to whatever the processor has
(AVX-512, AVX2, SSE2, NEON), so one source serves all of them. ``ledger.sha256`` takes it where there are no
instructions for SHA-256 itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped] # it has no types
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ledger.fips180 import BLOCK_SIZE, CONSTANTS, LENGTH_SIZE, START

__all__ = ["LANES", "hash_rows"]

Bytes = npt.NDArray[np.uint8]

LANES = 16
"""Messages hashed at a time. Eight fill an AVX2 register; the second eight hide the latency of the first."""
_START = np.array(START, np.uint32)


class _Lanes:
    """Writes vector instructions: each method is one function of FIPS 180-4 §4.1.2 on ``LANES`` words."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.vector = ir.VectorType(ir.IntType(32), LANES)
        shift_type = ir.FunctionType(self.vector, [self.vector] * 3)
        # A funnel shift of a word with itself is a rotation.
        self.funnel = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call] # part of numba without types
            builder.module, shift_type, f"llvm.fshr.v{LANES}i32"
        )

    def every(self, word: int) -> Any:
        return ir.Constant(self.vector, [word] * LANES)

    def at(self, address: Any, index: int) -> Any:
        offset = ir.Constant(address.type, index * 4 * LANES)
        return self.builder.inttoptr(self.builder.add(address, offset), self.vector.as_pointer())

    def load(self, address: Any, index: int) -> Any:
        return self.builder.load(self.at(address, index), align=4)

    def store(self, address: Any, index: int, words: Any) -> None:
        self.builder.store(words, self.at(address, index), align=4)

    def rotated(self, words: Any, count: int) -> Any:
        return self.builder.call(self.funnel, [words, words, self.every(count)])

    def total(self, first: Any, *others: Any) -> Any:
        for other in others:
            first = self.builder.add(first, other)
        return first

    def big_sigma(self, words: Any, one: int, two: int, three: int) -> Any:
        mixed = self.builder.xor(self.rotated(words, one), self.rotated(words, two))
        return self.builder.xor(mixed, self.rotated(words, three))

    def small_sigma(self, words: Any, one: int, two: int, shift: int) -> Any:
        mixed = self.builder.xor(self.rotated(words, one), self.rotated(words, two))
        return self.builder.xor(mixed, self.builder.lshr(words, self.every(shift)))

    def choice(self, x: Any, y: Any, z: Any) -> Any:
        return self.builder.xor(z, self.builder.and_(x, self.builder.xor(y, z)))

    def majority(self, x: Any, y: Any, z: Any) -> Any:
        return self.builder.or_(self.builder.and_(x, y), self.builder.and_(z, self.builder.or_(x, y)))

    def compress(self, state: Any, message: Any) -> None:
        """Write FIPS 180-4 §6.2.2 for one block a lane; the schedule keeps its last sixteen words only."""
        schedule = [self.load(message, index) for index in range(16)]
        before = [self.load(state, index) for index in range(8)]
        a, b, c, d, e, f, g, h = before
        for turn in range(len(CONSTANTS)):
            here = turn % 16
            if turn >= 16:
                recent = self.small_sigma(schedule[(turn - 2) % 16], 17, 19, 10)
                early = self.small_sigma(schedule[(turn - 15) % 16], 7, 18, 3)
                schedule[here] = self.total(schedule[here], early, schedule[(turn - 7) % 16], recent)
            added = self.builder.add(schedule[here], self.every(CONSTANTS[turn]))
            first = self.total(h, added, self.choice(e, f, g), self.big_sigma(e, 6, 11, 25))
            second = self.builder.add(self.big_sigma(a, 2, 13, 22), self.majority(a, b, c))
            a, b, c, d, e, f, g, h = self.builder.add(first, second), a, b, c, self.builder.add(d, first), e, f, g
        for index, (old, new) in enumerate(zip(before, (a, b, c, d, e, f, g, h), strict=True)):
            self.store(state, index, self.builder.add(old, new))


@intrinsic
def _compress(_typing: Any, _state: Any, _message: Any) -> tuple[Any, Callable[..., Any]]:
    """Advance the state of every lane by one block.

    Both arguments are addresses: of 8 and of 16 vectors, words in native order. The kernel below is the only caller and
    owns both.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _Lanes(builder).compress(*arguments)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp), generate


@njit(inline="always")
def _swapped(word: np.uint32) -> np.uint32:  # pragma: no cover - compiled
    """Turn a word's bytes around: SHA-256 is big-endian, the processor is not."""
    high = (word << np.uint32(24)) | ((word << np.uint32(8)) & np.uint32(0xFF0000))
    return np.uint32(high | ((word >> np.uint32(8)) & np.uint32(0xFF00)) | (word >> np.uint32(24)))


@njit()
def _padded(prefix: Bytes, width: int) -> Bytes:  # pragma: no cover - compiled
    """Give one message's blocks, all but the row itself: prefix, end mark and length in bits (FIPS 180-4 §5.1.1)."""
    size = prefix.size + width
    block_count = (size + 1 + LENGTH_SIZE + BLOCK_SIZE - 1) // BLOCK_SIZE
    padded = np.zeros(block_count * BLOCK_SIZE, np.uint8)
    padded[: prefix.size] = prefix
    padded[size] = 0x80
    for index in range(LENGTH_SIZE):
        padded[-1 - index] = (size * 8 >> (8 * index)) & 0xFF
    return padded


_PREFIX = types.Array(types.uint8, 1, "C", readonly=True)
_TABLE = types.Array(types.uint8, 2, "C", readonly=True)
_OUTPUT = types.Array(types.uint8, 2, "C")


@njit(types.void(_PREFIX, _TABLE, _OUTPUT), nogil=True, cache=True)
def hash_rows(prefix: Bytes, rows: Bytes, output: Bytes) -> None:  # pragma: no cover - compiled
    """Write SHA-256(prefix || row) of each row; shapes are checked by the caller."""
    count, width = rows.shape
    padded = _padded(prefix, width)  # every message has the same width, so its padding is written once
    padded_words = padded.view(np.uint32)
    output_words = output.view(np.uint32)
    message = np.zeros((len(padded_words), LANES), np.uint32)
    state = np.zeros((8, LANES), np.uint32)
    for first in range(0, count, LANES):
        lane_count = min(LANES, count - first)  # lanes beyond it hash what the group before left behind, unread
        for lane in range(lane_count):
            for index in range(width):
                padded[prefix.size + index] = rows[first + lane, index]
            for index in range(len(padded_words)):
                message[index, lane] = _swapped(padded_words[index])
        for index in range(8):
            state[index, :] = _START[index]
        for block in range(len(padded_words) // 16):
            block_address = message.ctypes.data + block * 16 * LANES * 4
            _compress(state.ctypes.data, block_address)  # type: ignore[call-arg] # without the typing context
        for lane in range(lane_count):
            for index in range(8):
                output_words[first + lane, index] = _swapped(state[index, lane])
