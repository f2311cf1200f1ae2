"""The numbers of FIPS 180-4 that SHA-256 is made of, derived as the standard defines them (§4.2.2, §5.3.3, §5.1.1)."""

from __future__ import annotations

import math

__all__ = ["BLOCK_SIZE", "CONSTANTS", "DIGEST_SIZE", "LENGTH_SIZE", "START"]

BLOCK_SIZE = 64
"""Bytes that one step takes in."""
DIGEST_SIZE = 32
LENGTH_SIZE = 8
"""Bytes of the message's length in bits, at the end of its last block."""


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


# Both tables are the first 32 bits of fractional parts of roots of the first primes.
START = tuple(math.isqrt(prime << 64) & 0xFFFFFFFF for prime in _primes(8))
"""The state before the first block: eight words."""
CONSTANTS = tuple(_cube_root(prime << 96) & 0xFFFFFFFF for prime in _primes(64))
"""One word for each of the 64 rounds."""
