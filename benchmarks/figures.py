"""What every measurement has in common: three sizes, one form of a result, and a word about the machine.

A result is ``{"value", "unit", "runs", "conditions", "stages"}``: the value is the median run, ``conditions`` says what
was measured, ``stages`` where the time went (empty where nothing is taken apart). What was measured beside it stands
next to these under names of its own.
"""

from __future__ import annotations

import enum
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["SEED", "Figure", "Form", "demand", "figure", "machine", "part", "percentile", "rounded"]

SEED = 20_260_101

Figure = dict[str, Any]


class Form(enum.Enum):
    """How much is done."""

    TINY = "tiny"
    """Shows that a measurement works; its figures mean nothing."""
    SHORT = "short"
    FULL = "full"


def part(runs: Sequence[float], **beside: Any) -> Figure:
    """Give the median of some runs, the runs, and what belongs beside them."""
    return {"value": rounded(statistics.median_low(runs)), "runs": [rounded(run) for run in runs], **beside}


def figure(
    runs: Sequence[float],
    *,
    unit: str,
    conditions: Mapping[str, Any],
    stages: Mapping[str, Any] | None = None,
    **beside: Any,
) -> Figure:
    """Give a result in its one form."""
    found = part(runs)
    return {
        "value": found["value"],
        "unit": unit,
        "runs": found["runs"],
        "conditions": dict(conditions),
        "stages": dict(stages or {}),
        **beside,
    }


def rounded(value: float) -> float | int:
    """Give whole numbers from a thousand on, and four significant digits below."""
    return round(value) if abs(value) >= 1_000 else float(f"{value:.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value below which ``share`` of all lie: 0.5 the median, 0.99 the 99th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> Figure:
    """Say where the figures come from; a plus behind the commit: files were changed, others than those of figures."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    status = ["git", "status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs/performance.md"]
    changed = subprocess.run(status, capture_output=True, text=True, check=False)
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory("MemTotal") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": (commit.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else ""),
        "load_average": round(os.getloadavg()[0], 1),
    }


def demand(*, memory_size: int, disk_size: int, folder: Path) -> None:
    """Refuse to begin what would not come to its end: bytes of free memory, and of free disk at ``folder``.

    Raises:
        SystemExit: there is too little, in a plain sentence.
    """
    memory, disk = _memory("MemAvailable"), shutil.disk_usage(folder).free
    if memory < memory_size:
        raise SystemExit(f"This needs {memory_size / 1e9:.1f} GB of free memory; there are {memory / 1e9:.1f} GB.")
    if disk < disk_size:
        raise SystemExit(f"This needs {disk_size / 1e9:.1f} GB of free disk; there are {disk / 1e9:.1f} GB.")


def _memory(name: str) -> int:
    """Give a field of the system's own account of its memory in bytes."""
    return 1024 * int((_field("/proc/meminfo", name) or "0").split()[0])


def _field(path: str, name: str) -> str:
    """Give the first line of a file of the system that begins with a name, without that name."""
    for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""
