"""Commands in columns: the binary form of many transfers, as a client sends it and as the journal keeps it.

A body in this form *is* the columns of its commands, so a block stores them once: of the records it keeps only what the
message does not say (``ledger.sections``). Little-endian::

    offset  size   what
    0       4      magic "HGT1"
    4       4      count n, 1 … 65,536
    8       4      which optional columns follow: bit 0 flags, 1 related, 2 timeout, 3 minimum, 4 value day
    12      4      zero
    16             groups of 512 commands (``ledger.packing``), the last one shorter; in each, one after another:
                   id, upper halves (u64) · id, lower halves (u64) · amount in minor units (i64)
                   · related id, upper and lower halves (u64 each), if bit 1
                   · minimum in minor units (i64), if bit 3
                   · debit account (u32) · credit account (u32) · timeout in seconds (u32), if bit 2
                   · value day (u32), if bit 4 · flags (u16), if bit 0

An optional column in which nothing stands is left out, so every list of commands has one spelling.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ledger.errors import MalformedInput
from ledger.packing import by_width, pack, unpack
from ledger.slabs import Slabs
from ledger.transfers import TRANSFER, Transfers, count_up

__all__ = ["COUNT_MAX", "HEAD_SIZE", "MAGIC", "MASK_MAX", "decode", "encode", "mask_of", "names_of", "read"]

MAGIC = b"HGT1"
COUNT_MAX = 65_536
"""Commands of one message."""
_HEAD = struct.Struct("<4sIII")
HEAD_SIZE = _HEAD.size
_BASE = ("id_hi", "id_lo", "amount", "debit", "credit")
_OPTIONAL = (("flags",), ("related_hi", "related_lo"), ("timeout_s",), ("minimum",), ("value_day",))
MASK_MAX = 2 ** len(_OPTIONAL) - 1
_NAMES = tuple(
    by_width(TRANSFER, _BASE + tuple(name for bit, names in enumerate(_OPTIONAL) if mask >> bit & 1 for name in names))
    for mask in range(MASK_MAX + 1)
)

_SLABS = Slabs()


def names_of(mask: int) -> tuple[str, ...]:
    """Give the columns of a body with these optional ones, in their order."""
    return _NAMES[mask]


def mask_of(body: bytes) -> int:
    """Say which optional columns a body has that ``decode`` has let pass."""
    return int(_HEAD.unpack_from(body)[2])


def decode(body: bytes) -> Transfers:
    """Read a body into commands, whose ``item`` counts from zero; what it does not say stays zero.

    Raises:
        MalformedInput: ``COLUMNS_MALFORMED``, ``COLUMNS_COUNT``.
    """
    return read(body)[0]


def read(body: bytes) -> tuple[Transfers, int]:
    """Read a body as ``decode`` does; gives the commands, and every flag that one of them has."""
    if len(body) < _HEAD.size:
        raise MalformedInput("COLUMNS_MALFORMED", "The columns are cut short.")
    magic, count, mask, zero = _HEAD.unpack_from(body)
    if magic != MAGIC or zero or mask > MASK_MAX:
        raise MalformedInput("COLUMNS_MALFORMED", "The body does not begin as columns do.")
    if not 1 <= count <= COUNT_MAX:
        raise MalformedInput("COLUMNS_COUNT", "A message holds 1 to 65,536 transfers.", count=count)
    commands = _SLABS.transfers(count)
    try:
        bits = unpack(memoryview(body)[_HEAD.size :], _NAMES[mask], commands)
    except MalformedInput as error:
        raise MalformedInput("COLUMNS_MALFORMED", "The body's length does not fit its count.") from error
    if _mask(lambda name: name in bits and bits[name] != 0) != mask:
        raise MalformedInput("COLUMNS_MALFORMED", "An optional column that says nothing is left out.")
    count_up(commands)
    return commands, bits.get("flags", 0)


def encode(commands: Transfers) -> bytes:
    """Write commands as a body, with the optional columns that say something: undoes ``decode``."""
    mask = _mask(lambda name: bool(commands[name].any()))
    return _HEAD.pack(MAGIC, len(commands), mask, 0) + pack(commands, _NAMES[mask]).tobytes()


def _mask(says_something: Callable[[str], bool]) -> int:
    """Give the optional columns of which one field or the other says something."""
    return sum(any(map(says_something, names)) << bit for bit, names in enumerate(_OPTIONAL))
