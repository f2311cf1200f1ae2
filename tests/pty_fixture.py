"""A terminal that is not there: what a program prints on one of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIME_S_MAX = 240
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """Run Python with arguments on a terminal of so many columns; give its code and what it prints, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {**{name: value for name, value in os.environ.items() if name not in hidden}, "TERM": "xterm"}
    try:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
    finally:
        os.close(theirs)
    try:
        printed = _all_of(ours)
        return process.wait(TIME_S_MAX), _ESCAPES.sub("", printed.decode()).replace("\r\n", "\n")
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def hugang_on_terminal(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """Run ``hugang`` on such a terminal."""
    return on_terminal("-m", "gateway.cli", *arguments, columns=columns)


def _all_of(terminal: int) -> bytes:
    """Read until nobody can write any more."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 2**16)
        except OSError:  # how Linux says that the other side is closed
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)
