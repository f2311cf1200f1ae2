"""What a fork server imports: everything a node or the settlement operator needs, with its kernels loaded."""

from __future__ import annotations

import benchmarks.processes
import gateway.serve
from settlement.warm import warm

__all__ = ["processes", "serve"]

processes, serve = benchmarks.processes, gateway.serve
warm()
