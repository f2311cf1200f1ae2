"""What a demonstration found: ``report.json``, written at its end whatever happened.

Expectations are worked out beside the nodes, from what was sent; a result that differs is a mismatch, and one mismatch
makes the demonstration fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ledger.runtime import Runtime

__all__ = ["REPORT_FILE", "Report"]

REPORT_FILE = "report.json"
FORMAT = 0


@dataclass(slots=True)
class Report:
    """Everything that ``report.json`` says; amounts are minor units as text."""

    runtime: Runtime
    network: str = ""
    seed: int = 0
    stored: int = 0
    """Payments that a node has accepted or settled."""
    refused: int = 0
    replayed: int = 0
    """Requests that were sent again and got their first result."""
    windows: dict[str, dict[str, Any]] = field(default_factory=dict)
    net_sums: dict[str, str] = field(default_factory=dict)
    verifier: dict[str, Any] = field(default_factory=dict)
    tampered: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)
    expectations: int = 0

    def expect(self, what: str, found: object, expected: object) -> bool:
        """Compare a result with what it must be; a difference is noted."""
        self.expectations += 1
        if found == expected:
            return True
        self.mismatches.append(f"{what}: found {found}, expected {expected}")
        return False

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage, also when it fails."""
        started_ns = self.runtime.monotonic_ns()
        try:
            yield
        finally:
            spent_ns = self.runtime.monotonic_ns() - started_ns
            self.seconds[name] = round(self.seconds.get(name, 0) + spent_ns / 1_000_000_000, 3)

    def save(self, folder: Path, *, failure: str | None) -> None:
        """Write ``report.json``."""
        content = {
            "format": FORMAT,
            "network": self.network,
            "seed": self.seed,
            "payments": {"stored": self.stored, "refused": self.refused, "replayed": self.replayed},
            "windows": self.windows,
            "net_sums": self.net_sums,
            "verifier": self.verifier,
            "tampered": self.tampered,
            "seconds": {**self.seconds, "total": round(sum(self.seconds.values()), 3)},
            "expectations": self.expectations,
            "mismatches": self.mismatches,
            "failure": failure,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / REPORT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
