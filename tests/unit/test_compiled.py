"""How kernels are compiled, kept on disk, and run as plain Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import ledger
from ledger import (
    checks,
    compiled,
    effects,
    groups,
    holds,
    meters,
    packing,
    points,
    registry,
    reversals,
    sections,
)
from ledger import (
    kernel as kernel_module,
)
from ledger.compiled import KERNEL_FILES, kernel, plain, source_digest

PACKAGE = Path(ledger.__file__).parent


def kernels() -> dict[str, Any]:
    """Find every kernel of the ledger by its dotted name."""
    own = (registry, meters, points, holds, reversals, checks, effects, kernel_module, groups)
    modules = (*own, packing, sections)
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__
    }


@kernel
def _twice(value: Any) -> Any:
    return value + value


@kernel
def _four_times(value: Any) -> Any:
    return _twice(_twice(value))


def test_a_kernel_and_its_plain_twin_agree() -> None:
    """The plain twin computes the same, in Python."""
    assert _four_times(3) == plain(_four_times)(3) == 12
    assert isinstance(plain(_four_times), FunctionType)
    assert plain(_four_times)("ab") == "ab" * 4


def test_the_plain_twin_calls_no_compiled_code() -> None:
    """Every kernel that a plain twin can reach is plain itself."""
    seen: set[int] = set()

    def walk(function: Any) -> None:
        if id(function) in seen:
            return
        seen.add(id(function))
        assert not isinstance(function, Dispatcher)
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            assert not isinstance(value, Dispatcher), name
            if isinstance(value, FunctionType) and value.__module__.startswith("ledger."):
                walk(value)

    for function in kernels().values():
        walk(plain(function))
    assert len(seen) >= len(kernels()) > 20


def test_a_plain_function_is_its_own_twin() -> None:
    """What is not compiled is given back as it is."""
    assert plain(len) is len


def test_every_file_with_a_kernel_is_in_the_digest() -> None:
    """A new file with kernels cannot be forgotten: the digest that guards the cache names them all."""
    marks = ("\n@kernel\n", "\n@inlined\n")
    found = {path.name for path in PACKAGE.glob("*.py") if any(mark in path.read_text() for mark in marks)}
    assert found <= set(KERNEL_FILES)
    assert all((PACKAGE / name).is_file() for name in KERNEL_FILES)


def test_compiled_code_on_disk_carries_the_digest_of_all_kernels() -> None:
    """The cache of each kernel is stamped with the digest over all kernel files, not with one file's date."""
    for name, function in kernels().items():
        own_file = function.py_func.__code__.co_filename
        assert function._cache._cache_file._source_stamp == source_digest(own_file), name


def test_a_kernel_elsewhere_depends_on_its_own_file_too() -> None:
    """A kernel outside the ledger's own files is compiled anew when its file changes, or one of theirs."""
    assert _twice._cache._cache_file._source_stamp == source_digest(__file__)
    assert source_digest(__file__) != source_digest(compiled.__file__)


def test_kernels_leave_the_interpreter_lock() -> None:
    """All kernels run beside other threads and are kept on disk."""
    for name, function in kernels().items():
        assert function.targetoptions.get("nogil"), name
        assert function._cache is not None, name


def run(code: str, **environment: str) -> str:
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment | {"PYTHONPATH": str(PACKAGE.parent)},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout


PLAIN = """
from ledger import kernel, warm
from ledger.compiled import plain
assert plain(kernel.apply_commands) is kernel.apply_commands
import numpy
numpy.seterr(over="ignore")
warm.warm()
print("plain")
"""


def test_without_numba_compiling_everything_runs_plain() -> None:
    """NUMBA_DISABLE_JIT gives the same functions as plain Python, as a coverage run needs them."""
    assert run(PLAIN, NUMBA_DISABLE_JIT="1") == "plain\n"


@pytest.mark.long
def test_compiled_code_is_kept_for_the_next_process(tmp_path: Path) -> None:
    """The first process writes machine code, the second one only reads it."""
    listings = []
    for _ in range(2):
        run("from ledger.warm import warm; warm()", NUMBA_CACHE_DIR=str(tmp_path))
        listings.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")})
    assert len(listings[0]) > 20
    assert listings[0] == listings[1]


@pytest.mark.long
def test_no_kernel_reads_or_writes_out_of_bounds(tmp_path: Path) -> None:
    """Compiled with bounds checks, the kernels go through seeded batches of everything without an IndexError."""
    code = "from tests.property import test_posting_model as model; model.test_the_kernel_agrees_with_the_model()"
    assert "seed" in run(code, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))


def test_numbers_of_a_kernel_do_not_become_floats() -> None:
    """Mixed signed and unsigned integers would become floats in a kernel: each field it writes stays an integer."""
    control = np.array([0, 1_024, 1_024, 0, 0], np.uint64)
    assert isinstance(registry.home_slot(control, np.uint64(5)), int)
    assert isinstance(registry.tag_of(3, np.uint64(2**40)), int)
    assert compiled.Number is Any
