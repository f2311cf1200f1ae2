"""The one table of exit codes; ``docs/cli.md`` prints it, and a test holds the two together."""

from __future__ import annotations

import enum

import httpx

from gateway.client.errors import NO_PROBLEM, AnswerMalformed, ProblemError, ServerUnreachable
from ledger.errors import IntegrityFailure, Unavailable

__all__ = ["MEANINGS", "ExitCode", "exit_code_of"]


class ExitCode(enum.IntEnum):
    """What ``hugang`` ends with; ``MEANINGS`` says what each means."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    INTEGRITY = 5
    ENVIRONMENT = 6
    INCOMPLETE = 7
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "Done; for `verify`, `doctor`, `resync` and `demo`: everything holds.",
    ExitCode.INTERNAL: "An unexpected failure, our mistake; the text above it says where.",
    ExitCode.USAGE: "The command line is not understood; nothing was done.",
    ExitCode.REFUSED: (
        "Understood and refused, by a node or because a file cannot be used: the message carries a stable code and a "
        "sentence."
    ),
    ExitCode.UNAVAILABLE: "A process does not answer or is busy, or a port is taken; trying again later may help.",
    ExitCode.INTEGRITY: (
        "Stored or exported data contradict a hash, a signature, a proof or a balance, or a result is not the expected "
        "one."
    ),
    ExitCode.ENVIRONMENT: "`doctor` found something that this machine lacks.",
    ExitCode.INCOMPLETE: (
        "`verify` found all sound, but not the whole: of the two exports one is missing, or older than the other."
    ),
    ExitCode.INTERRUPTED: "Ended by Ctrl-C or SIGTERM, or because nobody reads the output any more.",
}


def exit_code_of(error: Exception) -> ExitCode:
    """Say with which code an expected failure, or contradicting data, ends the command."""
    if isinstance(error, Unavailable | httpx.TransportError | ServerUnreachable | AnswerMalformed):
        return ExitCode.UNAVAILABLE
    if isinstance(error, ProblemError):
        away = error.status == httpx.codes.SERVICE_UNAVAILABLE or error.code == NO_PROBLEM
        return ExitCode.UNAVAILABLE if away else ExitCode.REFUSED
    return ExitCode.INTEGRITY if isinstance(error, IntegrityFailure) else ExitCode.REFUSED
