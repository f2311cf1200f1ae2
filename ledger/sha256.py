"""SHA-256 of many short messages of one width, compiled: sixteen lanes of FIPS 180-4 beside each other.

Hashing one record from Python costs most of a microsecond, nearly all of it in the call. Here one call takes a table of
rows. The compression function works on vectors of ``LANES`` 32-bit words: word *t* of sixteen messages is one vector,
and every step of the standard is one vector instruction or a few. LLVM maps the vectors to whatever the processor has
(AVX-512, AVX2, SSE2, NEON), so one source serves all of them, without SHA instructions or a library's private symbols.

Importing this module compiles the kernel, or loads it from numba's cache, and checks it against ``hashlib``. Nothing
imports it at the top: ``merkle`` does when a table is large enough, and gives the same answers without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped] # it has no types
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ledger.errors import InvariantViolation

__all__ = ["LANES", "digests"]

if config.DISABLE_JIT:  # type: ignore[attr-defined] # set while numba.config runs
    raise ImportError("numba is switched off by NUMBA_DISABLE_JIT, and these kernels have no uncompiled form")

Bytes = npt.NDArray[np.uint8]

LANES = 16
"""Messages hashed at a time. Eight fill an AVX2 register; the second eight hide the latency of the first."""
BLOCK_SIZE = 64
DIGEST_SIZE = 32
_ROUNDS = 64
_LENGTH_SIZE = 8


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _cube_root(number: int) -> int:
    """Give the largest integer whose cube is not above ``number``."""
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**3 <= number:
            low = middle
        else:
            high = middle - 1
    return low


# FIPS 180-4 §5.3.3 and §4.2.2 define both tables as the first 32 bits of fractional parts of roots of the first primes.
_START = np.array([math.isqrt(prime << 64) & 0xFFFFFFFF for prime in _primes(8)], np.uint32)
_CONSTANTS = [_cube_root(prime << 96) & 0xFFFFFFFF for prime in _primes(_ROUNDS)]


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
        for turn in range(_ROUNDS):
            here = turn % 16
            if turn >= 16:
                recent = self.small_sigma(schedule[(turn - 2) % 16], 17, 19, 10)
                early = self.small_sigma(schedule[(turn - 15) % 16], 7, 18, 3)
                schedule[here] = self.total(schedule[here], early, schedule[(turn - 7) % 16], recent)
            added = self.builder.add(schedule[here], self.every(_CONSTANTS[turn]))
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
def _padded(prefix: int, width: int) -> Bytes:  # pragma: no cover - compiled
    """Give one message's blocks, all but the row itself: prefix, end mark and length in bits (FIPS 180-4 §5.1.1)."""
    block_count = (1 + width + 1 + _LENGTH_SIZE + BLOCK_SIZE - 1) // BLOCK_SIZE
    padded = np.zeros(block_count * BLOCK_SIZE, np.uint8)
    padded[0] = prefix
    padded[1 + width] = 0x80
    for index in range(_LENGTH_SIZE):
        padded[-1 - index] = ((1 + width) * 8 >> (8 * index)) & 0xFF
    return padded


_TABLE = types.Array(types.uint8, 2, "C", readonly=True)
_OUTPUT = types.Array(types.uint8, 2, "C")


@njit(types.void(types.uint8, _TABLE, _OUTPUT), nogil=True, cache=True)
def _hash_rows(prefix: int, rows: Bytes, output: Bytes) -> None:  # pragma: no cover - compiled
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
                padded[1 + index] = rows[first + lane, index]
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


def digests(prefix: int, rows: Bytes) -> Bytes:
    """Give SHA-256(prefix || row) of each row, shape (n, 32).

    Args:
        prefix: the first byte of every message, 0 to 255.
        rows: shape (n, width), dtype uint8, C-contiguous; may be read-only.

    Raises:
        InvariantViolation: another shape, layout or prefix; the kernel itself checks no bounds.
    """
    if rows.ndim != 2 or rows.dtype != np.uint8 or not rows.flags.c_contiguous or not 0 <= prefix <= 0xFF:
        raise InvariantViolation("rows to hash are a C-contiguous table of bytes")
    output = np.empty((rows.shape[0], DIGEST_SIZE), np.uint8)
    _hash_rows(prefix, rows, output)
    return output


def _check() -> None:
    """Hash two groups of every number of blocks up to three both ways: a compiler's mistake must not reach a root."""
    for width in (0, 54, 55, 64, 105, 118, 119):
        rows = (np.arange((LANES + 1) * width, dtype=np.uint32) * 167 % 251).astype(np.uint8).reshape(LANES + 1, width)
        expected = b"".join(hashlib.sha256(b"\x01" + row.tobytes()).digest() for row in rows)
        if digests(1, rows).tobytes() != expected:
            raise InvariantViolation("the compiled SHA-256 differs from hashlib")


_check()
