"""How the ledger compiles: one decorator for kernels, and the way to run the same source as plain Python.

Compiled code is kept on disk beside the source. numba notices when the file of a kernel changes, but not when a
kernel it calls from another file does; here every kernel's cache carries the digest of all of them, so none outlives
a change of any.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.dispatcher import Dispatcher

__all__ = ["Number", "Row", "inlined", "kernel", "plain", "source_digest"]

Number = Any
"""In the signature of a kernel: an integer, compiled or a numpy scalar."""
Row = Any
"""In the signature of a kernel: one element of a structured array, by reference."""

# The ledger's kernels, and where their constants come from: a constant is compiled in.
KERNEL_FILES = (
    "accounts.py",
    "answers.py",
    "checks.py",
    "compiled.py",
    "control.py",
    "effects.py",
    "groups.py",
    "holds.py",
    "kernel.py",
    "meters.py",
    "packing.py",
    "points.py",
    "posting.py",
    "registry.py",
    "reversals.py",
    "sections.py",
    "transfers.py",
)

_Function = TypeVar("_Function", bound=Callable[..., Any])


@functools.cache
def source_digest(own_file: str) -> str:
    """Give SHA-256 over the ledger's files with kernels, which others may call, and the file of one kernel."""
    digest = hashlib.sha256()
    for path in (*(Path(__file__).with_name(name) for name in KERNEL_FILES), Path(own_file)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def kernel(function: _Function) -> _Function:
    """Compile a function on its first call, to run without the interpreter lock; the machine code is kept on disk."""
    return _compiled(function)


def inlined(function: _Function) -> _Function:
    """Compile a kernel that every command passes through; whoever calls it gets its code instead of a call."""
    return _compiled(function, forceinline=True)


def _compiled(function: _Function, *, forceinline: bool = False) -> _Function:
    compiled: Any = njit(nogil=True, cache=True, forceinline=forceinline)(function)
    cache: Any = getattr(compiled, "_cache", None)
    if cache is None:
        return function  # NUMBA_DISABLE_JIT: everything is plain, so that a coverage run sees the lines of the kernels
    stamp = source_digest(function.__code__.co_filename)
    cache._cache_file._source_stamp = stamp  # noqa: SLF001 - numba has no public way to say this
    return cast("_Function", compiled)


@functools.cache
def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the plain Python function behind a kernel; the kernels it calls are plain too."""
    if not isinstance(function, Dispatcher):
        return function
    source = function.py_func
    names = {name: value for name, value in source.__globals__.items() if not isinstance(value, Dispatcher)}
    twin = types.FunctionType(source.__code__, names, source.__name__, source.__defaults__)
    for name in source.__code__.co_names:
        value = source.__globals__.get(name)
        if isinstance(value, Dispatcher):
            names[name] = plain(value)
    return twin
