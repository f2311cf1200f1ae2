"""What the serving commands share: the real world with its crash plan, and how a process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ledger.runtime import CrashPlan, Runtime, SystemRuntime, keep_memory

__all__ = ["end_with_parent", "serve"]


def serve(start: Callable[[Path, Runtime], None], folder: Path, *, stop_with_parent: bool) -> None:
    """Serve what lies in a folder until SIGTERM or Ctrl-C; ``HUGANG_CRASH`` is honoured here and nowhere else.

    Args:
        start: serves, and returns when a signal has ended it.
        folder: of the node or of the settlement operator.
        stop_with_parent: whether to end when standard input ends.
    """
    if stop_with_parent:
        end_with_parent()
    keep_memory()
    runtime = SystemRuntime(crash_plan=CrashPlan.from_environment(os.environ))
    with contextlib.suppress(KeyboardInterrupt):  # the server raises its signal again after a clean end
        start(folder, runtime)


def end_with_parent() -> None:
    """End this process (SIGTERM) when its standard input ends: whoever started it holds the other end of that pipe."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):  # not through the buffer, whose lock would outlive this thread at exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
