"""The three kinds of failure; they never share a base.

::

    LedgerError            expected: somebody outside must act, and is told how
      MalformedInput       the sender must change the bytes (nothing is journaled, nothing is used up)
      Unauthenticated      the sender must sign, or sign differently
      Forbidden            the key is good, but it may not do this
      Rejected             understood, and refused by a rule of the business
        NotFound           names something that is not there
        Conflict           contradicts something already journaled
      Unavailable          the server cannot answer now; says when to try again
    IntegrityFailure       stored or exported data contradict a hash, a signature, a proof or a balance
    InvariantViolation     our own mistake; nobody catches it below the edge of the process

Every error has a stable ``code`` (``UPPER_SNAKE``), a plain sentence and typed ``fields``. Codes are never reused; the
page ``docs/errors.md`` is generated from the table that maps them to HTTP and ISO 20022.
"""

from __future__ import annotations

__all__ = [
    "Conflict",
    "Forbidden",
    "IntegrityFailure",
    "InvariantViolation",
    "LedgerError",
    "MalformedInput",
    "NotFound",
    "Rejected",
    "Unauthenticated",
    "Unavailable",
]

Field = str | int | bool | None


class LedgerError(Exception):
    """An expected failure: a stable code, a sentence for people, and fields for programs.

    ``str()`` gives ``CODE: sentence (field=value)`` for logs; clients get a fixed sentence by code instead.
    """

    def __init__(self, code: str, sentence: str, **fields: Field) -> None:
        """Keep the parts apart, so that a caller never parses a message."""
        self.code = code
        self.sentence = sentence
        self.fields = fields
        details = ", ".join(f"{name}={value}" for name, value in fields.items())
        super().__init__(f"{code}: {sentence}" + (f" ({details})" if details else ""))


class MalformedInput(LedgerError):
    """The bytes are not what the format asks for; the sender must change them."""


class Unauthenticated(LedgerError):
    """No good signature by a known, unrevoked key stands on the message."""


class Forbidden(LedgerError):
    """The key is good, but its party or roles do not allow this."""


class Rejected(LedgerError):
    """Understood, and refused by a rule of the business."""


class NotFound(Rejected):
    """The message names something that does not exist here."""


class Conflict(Rejected):
    """The message contradicts something that is already journaled."""


class Unavailable(LedgerError):
    """The server cannot answer now; ``fields["retry_after_s"]`` says when to try again."""


class IntegrityFailure(Exception):
    """Stored or exported data contradict a hash, a signature, a proof or a balance.

    ``position`` is the first journal position that is wrong, when it can be named; ``block`` its block's height.
    """

    def __init__(
        self, code: str, sentence: str, *, position: int | None = None, block: int | None = None, **fields: Field
    ) -> None:
        """Name the first bad record, so that an auditor need not search."""
        self.code = code
        self.sentence = sentence
        self.position = position
        self.block = block
        self.fields = fields
        where = "" if block is None else f" at block {block}"
        where += "" if position is None else f", position {position}"
        details = ", ".join(f"{name}={value}" for name, value in fields.items())
        super().__init__(f"{code}: {sentence}{where}" + (f" ({details})" if details else ""))


class InvariantViolation(Exception):
    """An invariant of ``docs/architecture.md`` does not hold: our mistake, never caught below the process edge."""
