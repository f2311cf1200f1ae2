"""Values as bytes: one encoding of each, nothing of an unknown kind written, nothing else read."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest

from ledger.errors import InvariantViolation, MalformedInput
from ledger.values import DEPTH_MAX, Codec

PAIR = np.dtype([("a", "<u4"), ("b", "<i8")])


class Colour(enum.StrEnum):
    """Something that is compared by identity."""

    RED = "red"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A frozen object."""

    name: str
    colour: Colour


@dataclass
class Tree:
    """An object with others in it."""

    leaves: list[Leaf] = field(default_factory=list)
    by_name: dict[str, Leaf] = field(default_factory=dict)


class Column:
    """An object that says itself what is kept."""

    def __init__(self, rows: np.ndarray) -> None:
        """Hold an array."""
        self.rows = rows

    def dump(self) -> dict[str, Any]:
        """Give it."""
        return {"rows": self.rows}

    @classmethod
    def restore(cls, kept: dict[str, Any]) -> Column:
        """Take it."""
        return cls(kept["rows"])


CODEC = Codec(classes=(Colour, Leaf, Tree, Column), dtypes={"pair": PAIR})


def again(value: Any) -> Any:
    """Write a value and read it."""
    return CODEC.unpack(b"".join(CODEC.pack(value)))


def document(plain: Any, *, rest: bytes = b"") -> bytes:
    """Give the bytes of a document that nobody would write."""
    data = msgspec.msgpack.encode(plain)
    return len(data).to_bytes(8, "little") + data + rest


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "text",
        b"short",
        b"long" * 100,
        0,
        -(2**63),
        2**63 - 1,
        2**63,
        2**128 - 1,
        -(2**128),
        [1, [2, ()]],
        {(1, True): {"a": b""}},
        {3, 1, 2},
        frozenset({"b", "a"}),
        range(3, 9, 2),
        Colour.RED,
        Leaf("x", Colour.RED),
        [frozenset(), frozenset()],
    ],
)
def test_a_value_comes_back(value: Any) -> None:
    """What is written is read as it was, each part of its own kind."""
    found = again(value)
    assert found == value
    assert type(found) is type(value)


def test_an_enumeration_comes_back_as_itself() -> None:
    """A member of an enumeration is the same object afterwards."""
    assert again([Colour.RED])[0] is Colour.RED


def test_arrays_come_back_and_can_be_written_to() -> None:
    """Arrays, plain, structured or empty, come back equal, of their types, and writable."""
    pairs = np.zeros(3, PAIR)
    pairs["b"] = [-1, 0, 1]
    arrays = [pairs, np.arange(5, dtype=np.uint16), np.zeros(0, np.int64), np.array([True, False]), pairs[::2]]
    for before, after in zip(arrays, again(arrays), strict=True):
        assert before.dtype == after.dtype
        assert before.tobytes() == after.tobytes()
        assert after.flags.writeable
    column = again(Column(np.arange(3, dtype=np.uint32)))
    assert column.rows.tolist() == [0, 1, 2]


def test_one_object_stays_one() -> None:
    """An object that stands at two places is one object afterwards too."""
    leaf = Leaf("x", Colour.RED)
    tree = again(Tree([leaf], {"x": leaf}))
    assert tree.leaves[0] is tree.by_name["x"]
    assert tree == Tree([leaf], {"x": leaf})


def test_nothing_of_an_unknown_kind_is_written() -> None:
    """What the codec does not know, or could not give back as it was, is a bug of whoever holds it."""
    shared: list[int] = []
    for value in (1.5, object(), np.uint32(1), np.zeros(1, np.float64), np.zeros((2, 2), np.int64), [shared, shared]):
        with pytest.raises(InvariantViolation):
            CODEC.pack(value)
    with pytest.raises(InvariantViolation):
        Codec(classes=(), dtypes={}).pack(Leaf("x", Colour.RED))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(8),
        document(1) + b"x",
        document(1)[:-1],
        document(1.5),
        document({"a": 1}),
        document([]),
        document(["none"]),
        document(["int", (5).to_bytes(17, "little")]),
        document(["int", b"\x05"]),
        document(["bytes", 3], rest=b"abc"),
        document(["bytes", 70], rest=b"abc"),
        document(["bytes", -1]),
        document(["array", "<f8", 0]),
        document(["array", "pair", 1], rest=bytes(11)),
        document(["array", "pair"]),
        document(["dict", 1]),
        document(["dict", 1, 2, 1, 3]),
        document(["dict", ["list"], 1]),
        document(["set", 2, 1]),
        document(["range", 1, 2]),
        document(["range", 1, 2, 0]),
        document(["enum", "Colour", "blue"]),
        document(["enum", "Leaf", "red"]),
        document(["enum", "None", "red"]),
        document(["object", "Leaf", "x"]),
        document(["object", "Other", "x"]),
        document(["object", "Column", 1]),
        document(["object", "Column", ["dict", "row", 1]]),
        document(["object", "Colour", "red"]),
        document(["again", 0]),
        document(["object", "Leaf", ["again", 0], ["enum", "Colour", "red"]]),
        len(b"\xd0\x05").to_bytes(8, "little") + b"\xd0\x05",
        len(b"\xc1").to_bytes(8, "little") + b"\xc1",
    ],
)
def test_what_nobody_would_write_is_not_read(data: bytes) -> None:
    """Bytes that are cut, of an unknown kind, or another spelling of a value are refused with a code."""
    with pytest.raises(MalformedInput) as caught:
        CODEC.unpack(data)
    assert caught.value.code == "VALUE_MALFORMED"


def test_nesting_has_a_bound() -> None:
    """Containers inside one another are read up to a depth."""
    plain: Any = 1
    for _ in range(DEPTH_MAX):
        plain = ["tuple", plain]
    CODEC.unpack(document(plain))
    with pytest.raises(MalformedInput, match="deep"):
        CODEC.unpack(document(["tuple", plain]))


def test_every_flipped_byte_gives_another_value_or_none() -> None:
    """No two byte strings mean one value: a changed byte is refused or read as something else."""
    value = [Leaf("x", Colour.RED), {1: 2**70}, np.arange(3, dtype=np.uint16), b"q" * 70, {1, 2}]
    data = b"".join(CODEC.pack(value))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = CODEC.unpack(changed)
        except MalformedInput:
            continue
        assert b"".join(CODEC.pack(found)) == changed
