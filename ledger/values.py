"""Small values and large arrays as bytes: how a snapshot holds what an interpreter remembers.

A ``Codec`` knows a closed list of classes; nothing else is written, and nothing else is ever made when reading. The
bytes are a document, MessagePack, in which every container says what it is, and behind it the arrays and long byte
strings, as they are, in the order in which the document names them::

    u64  size of the document
    the document
    the arrays and the long byte strings, without gaps

``None``, truth values, numbers below 2^63, text and short byte strings stand for themselves. All else is a list whose
first element names its kind: ``int`` (larger numbers), ``bytes``, ``array``, ``list``, ``tuple``, ``dict``, ``set``,
``frozenset``, ``range``, ``enum``, ``object``, and ``again`` for an object that stands further ahead: what was one
object stays one. Sets are in ascending order. There is one encoding of a value, and no other is read.

>>> codec = Codec(classes=(), dtypes={})
>>> codec.unpack(b"".join(codec.pack({1: (2, "three")})))
{1: (2, 'three')}
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from ledger.errors import InvariantViolation, MalformedInput

__all__ = ["Codec", "Dumpable"]

DEPTH_MAX = 32
"""Containers inside one another."""
SHORT = 64
"""Bytes up to which a byte string stands in the document."""
_I64 = 2**63
_BIG = 17
_PLAIN = ("|b1", "|u1", "<u2", "<u4", "<u8", "<i8")

Buffer = bytes | memoryview


@runtime_checkable
class Dumpable(Protocol):
    """An object that says itself what of it is kept."""

    def dump(self) -> dict[str, Any]:
        """Give what is kept."""

    @classmethod
    def restore(cls, kept: dict[str, Any]) -> Any:
        """Make the object again of what ``dump`` gave."""


class Codec:
    """Writes and reads values of a closed list of classes: dataclasses, enumerations and ``Dumpable`` ones."""

    def __init__(self, *, classes: Sequence[type], dtypes: Mapping[str, npt.DTypeLike]) -> None:
        """Know these classes by their names, and these types of structured arrays."""
        self.classes = {one.__name__: one for one in classes}
        self.dtypes = {**{name: np.dtype(name) for name in _PLAIN}, **{k: np.dtype(v) for k, v in dtypes.items()}}
        self.names = {dtype: name for name, dtype in self.dtypes.items()}

    def pack(self, value: Any) -> list[Buffer]:
        """Give a value's bytes, in pieces that stand one behind another; arrays are not copied.

        Raises:
            InvariantViolation: something in it is of no known kind, or one container stands at two places.
        """
        return _Packer(self).pack(value)

    def unpack(self, data: Buffer) -> Any:
        """Read a value; arrays are copies.

        Raises:
            MalformedInput: ``VALUE_MALFORMED``, not the one encoding of any value.
        """
        return _Unpacker(self, memoryview(data)).unpack()


class _Packer:
    """One writing."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._blobs: list[Buffer] = []
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []
        self._objects: dict[int, int] = {}

    def pack(self, value: Any) -> list[Buffer]:
        document = msgspec.msgpack.encode(self._plain(value))
        return [len(document).to_bytes(8, "little") + document, *self._blobs]

    def _plain(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            if -_I64 <= value < _I64:
                return value
            return ["int", value.to_bytes(_BIG, "little", signed=True)]
        if kind is bytes:
            return value if len(value) <= SHORT else self._blob("bytes", value, len(value))
        if isinstance(value, enum.Enum):
            return ["enum", self._name(kind), self._plain(value.value)]
        if kind is range:
            return ["range", value.start, value.stop, value.step]
        if kind is tuple:
            return ["tuple", *map(self._plain, value)]
        if kind is frozenset:
            return ["frozenset", *map(self._plain, sorted(value))]
        return self._container(value, kind)

    def _container(self, value: Any, kind: type) -> list[Any]:
        """Write what has an identity of its own."""
        if id(value) in self._objects:
            return ["again", self._objects[id(value)]]
        if id(value) in self._seen:
            raise InvariantViolation(f"a {kind.__name__} stands at two places, and would become two")
        self._kept.append(value)  # so that no other object gets its id meanwhile
        self._seen[id(value)] = 1
        if kind in (list, dict, set):
            return [kind.__name__, *self._elements(value, kind)]
        if kind is np.ndarray:
            return self._array(value)
        self._objects[id(value)] = len(self._objects)
        return ["object", self._name(kind), *(self._plain(part) for part in _fields(value))]

    def _elements(self, value: Any, kind: type) -> list[Any]:
        if kind is dict:
            return [self._plain(part) for pair in value.items() for part in pair]
        return [self._plain(part) for part in (value if kind is list else sorted(value))]

    def _array(self, value: npt.NDArray[Any]) -> list[Any]:
        name = self._codec.names.get(value.dtype)
        if name is None or value.ndim != 1:
            raise InvariantViolation(f"an array of {value.dtype} is of no known kind")
        rows = np.ascontiguousarray(value)
        return self._blob("array", rows.view(np.uint8).data if len(rows) else b"", name, len(rows))

    def _blob(self, kind: str, data: Buffer, *about: Any) -> list[Any]:
        self._blobs.append(data)
        return [kind, *about]

    def _name(self, kind: type) -> str:
        if self._codec.classes.get(kind.__name__) is not kind:
            raise InvariantViolation(f"{kind.__name__} is no class that is known here")
        return kind.__name__


class _Unpacker:
    """One reading."""

    def __init__(self, codec: Codec, data: memoryview) -> None:
        self._codec = codec
        self._data = data
        self._place = 0
        self._objects: list[Any] = []

    def unpack(self) -> Any:
        document = self._take(int.from_bytes(self._take(8), "little"))
        try:
            value = self._value(msgspec.msgpack.decode(document), 0)
        except (ValueError, TypeError, LookupError, AttributeError, msgspec.DecodeError, OverflowError) as error:
            raise _malformed("a value is not of its kind") from error
        if self._place != len(self._data):
            raise _malformed("something stands behind the last value")
        if _Packer(self._codec).pack(value)[0][8:] != document:
            raise _malformed("a value is written in another way than it would be")
        return value

    def _take(self, size: int) -> memoryview:
        part = self._data[self._place : self._place + size]
        if len(part) != size:
            raise _malformed("it is cut short")
        self._place += size
        return part

    def _value(self, plain: Any, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise _malformed("it is nested too deep")
        if not isinstance(plain, list):
            if isinstance(plain, dict | float):
                raise _malformed("a value is of no known kind")
            return plain
        kind, *parts = plain
        if kind == "object":
            return self._object(parts, depth)
        return _READERS[kind](self, parts, depth)

    def _values(self, parts: list[Any], depth: int) -> list[Any]:
        return [self._value(part, depth + 1) for part in parts]

    def _dict(self, parts: list[Any], depth: int) -> dict[Any, Any]:
        values = iter(self._values(parts, depth))
        return dict(zip(values, values, strict=True))

    def _array(self, parts: list[Any], _depth: int) -> npt.NDArray[Any]:
        name, count = parts
        dtype = self._codec.dtypes[name]
        return np.frombuffer(self._take(count * dtype.itemsize), dtype).copy()

    def _enum(self, parts: list[Any], depth: int) -> Any:
        name, value = parts
        kind = self._codec.classes[name]
        if not issubclass(kind, enum.Enum):
            raise _malformed("a class is no enumeration")
        return kind(self._value(value, depth + 1))

    def _object(self, parts: list[Any], depth: int) -> Any:
        name, *fields = parts
        kind: Any = self._codec.classes[name]
        number = len(self._objects)
        self._objects.append(None)
        if issubclass(kind, Dumpable):
            (kept,) = self._values(fields, depth)
            made = kind.restore(kept)
        else:
            made = object.__new__(kind)
            names = [field.name for field in dataclasses.fields(kind)]
            for field, part in zip(names, self._values(fields, depth), strict=True):
                object.__setattr__(made, field, part)
        self._objects[number] = made
        return made


_READERS: dict[str, Any] = {
    "int": lambda _self, parts, _depth: int.from_bytes(parts[0], "little", signed=True),
    "bytes": lambda self, parts, _depth: bytes(self._take(parts[0])),
    "array": _Unpacker._array,  # noqa: SLF001 - the table belongs to the class
    "list": _Unpacker._values,  # noqa: SLF001 - the same
    "tuple": lambda self, parts, depth: tuple(self._values(parts, depth)),
    "dict": _Unpacker._dict,  # noqa: SLF001 - the same
    "set": lambda self, parts, depth: set(self._values(parts, depth)),
    "frozenset": lambda self, parts, depth: frozenset(self._values(parts, depth)),
    "range": lambda _self, parts, _depth: range(*parts),
    "enum": _Unpacker._enum,  # noqa: SLF001 - the same
    "again": lambda self, parts, _depth: self._objects[parts[0]],
}


def _fields(value: Any) -> list[Any]:
    """Give what is kept of an object, in order."""
    if isinstance(value, Dumpable):
        return [value.dump()]
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _malformed(sentence: str) -> MalformedInput:
    return MalformedInput("VALUE_MALFORMED", f"A kept value cannot be read: {sentence}.")
