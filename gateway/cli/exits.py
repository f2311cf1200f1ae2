"""The one table of exit codes; ``docs/cli.md`` prints it, and a test holds the two together."""

from __future__ import annotations

import enum

import httpx

from gateway.client.errors import ProblemError, ServerUnreachable
from ledger.errors import IntegrityFailure, Unavailable

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(enum.IntEnum):
    """What ``hugang`` ends with."""

    OK = 0
    """Done; for `verify`, `doctor` and `demo`: everything holds."""
    INTERNAL = 1
    """An unexpected failure: our mistake; the text above it says where."""
    USAGE = 2
    """The command line is not understood; nothing was done."""
    REFUSED = 3
    """Understood and refused: the answer carries a code and a sentence."""
    UNAVAILABLE = 4
    """A process does not answer, is busy, or a port is taken; trying again later may help."""
    INTEGRITY = 5
    """Stored or exported data contradict a hash, a signature, a proof or a balance, or two results do not agree."""
    ENVIRONMENT = 6
    """`doctor` found something that this machine lacks."""
    INTERRUPTED = 130
    """Ended by Ctrl-C or SIGTERM."""


def exit_code_of(error: Exception) -> ExitCode:
    """Say with which code an expected failure, or contradicting data, ends the command."""
    if isinstance(error, Unavailable | httpx.TransportError | ServerUnreachable):
        return ExitCode.UNAVAILABLE
    if isinstance(error, ProblemError):
        return ExitCode.UNAVAILABLE if error.status == httpx.codes.SERVICE_UNAVAILABLE else ExitCode.REFUSED
    return ExitCode.INTEGRITY if isinstance(error, IntegrityFailure) else ExitCode.REFUSED
