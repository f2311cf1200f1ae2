"""SHA-256 of many short messages of one width, compiled: ``digests`` of a table of rows.

Hashing one record from Python costs most of a microsecond, nearly all of it in the call; here one call takes a whole
table. Two kernels do the work, whichever suits the processor: its own instructions (``sha256_native``) or vectors of
lanes (``sha256_lanes``). Both are written here, without a library's private symbols.

Importing this module compiles the kernels, or loads them from numba's cache, and checks them against ``hashlib``.
Nothing imports it at the top: ``merkle`` does when a table is large enough, and gives the same answers without it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from llvmlite import binding  # type: ignore[import-untyped] # it has no types
from numba import config

from ledger.errors import InvariantViolation
from ledger.fips180 import DIGEST_SIZE

if config.DISABLE_JIT:  # type: ignore[attr-defined] # set while numba.config runs
    raise ImportError("numba is switched off by NUMBA_DISABLE_JIT, and these kernels have no uncompiled form")

from ledger import sha256_lanes, sha256_native

__all__ = ["IS_NATIVE", "PREFIX_SIZE_MAX", "digests"]

Bytes = npt.NDArray[np.uint8]

PREFIX_SIZE_MAX = 15
"""Bytes that may stand before every row."""


def _has_instructions() -> bool:
    """Whether compiled code may use the instructions of x86 for SHA-256; another target may have been asked for."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined] # set while numba.config runs
        return False
    features = binding.get_host_cpu_features()
    return bool(features.get("sha", False) and features.get("ssse3", False))


IS_NATIVE = _has_instructions()


def digests(prefix: bytes, rows: Bytes, output: Bytes | None = None, *, native: bool = IS_NATIVE) -> Bytes:
    """Give SHA-256(prefix || row) of each row, shape (n, 32).

    Args:
        prefix: what every message begins with, at most ``PREFIX_SIZE_MAX`` bytes.
        rows: shape (n, width), dtype uint8, C-contiguous; may be read-only.
        output: where they are written, of that shape and C-contiguous; new memory unless it is given.
        native: whether the processor's own instructions are used; ``True`` only where ``IS_NATIVE``.

    Raises:
        InvariantViolation: another shape, layout or prefix; the kernels themselves check no bounds.
    """
    if rows.ndim != 2 or rows.dtype != np.uint8 or not rows.flags.c_contiguous or len(prefix) > PREFIX_SIZE_MAX:
        raise InvariantViolation("rows to hash are a C-contiguous table of bytes with a short prefix")
    if output is None:
        output = np.empty((rows.shape[0], DIGEST_SIZE), np.uint8)
    if output.shape != (rows.shape[0], DIGEST_SIZE) or output.dtype != np.uint8 or not output.flags.c_contiguous:
        raise InvariantViolation("digests are written into a C-contiguous table of as many")
    is_native = native and rows.shape[1] >= sha256_native.WIDTH_MIN
    hash_rows = sha256_native.hash_rows if is_native else sha256_lanes.hash_rows
    hash_rows(np.frombuffer(prefix, np.uint8), rows, output)
    return output


def _check() -> None:
    """Hash tables of every number of blocks up to three all ways: a compiler's mistake must not reach a root."""
    for width in (0, 16, 53, 54, 55, 64, 112, 117, 118, 119):
        count = sha256_lanes.LANES + 1
        rows = (np.arange(count * width, dtype=np.uint32) * 167 % 251).astype(np.uint8).reshape(count, width)
        expected = b"".join(hashlib.sha256(b"\x00\x02" + row.tobytes()).digest() for row in rows)
        for native in {False, IS_NATIVE}:
            if digests(b"\x00\x02", rows, native=native).tobytes() != expected:
                raise InvariantViolation("the compiled SHA-256 differs from hashlib")


_check()
