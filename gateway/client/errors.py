"""What can go wrong between a client and a server."""

from __future__ import annotations

from typing import Any

__all__ = ["NO_PROBLEM", "AnswerMalformed", "ClientError", "ProblemError", "ServerUnreachable"]

NO_PROBLEM = "NO_PROBLEM"
"""The code of a failure that came without one: whatever answered is no server of ours."""


class ClientError(Exception):
    """Any failure of a call to a server."""


class ServerUnreachable(ClientError):
    """No answer came, after all tries; whether a write was carried out is not known.

    Trying again with ``idempotency_key`` is safe: it is carried out at most once.
    """

    def __init__(self, url: str, idempotency_key: str) -> None:
        """Name the server and the key of the write (empty for a read)."""
        self.url = url
        self.idempotency_key = idempotency_key
        super().__init__(f"SERVER_UNREACHABLE: No answer came from {url}.")


class AnswerMalformed(ClientError):
    """An answer came that is none of this interface: something else listens at this address.

    What became of a write is not known; trying again with ``idempotency_key`` is safe.
    """

    def __init__(self, url: str, idempotency_key: str) -> None:
        """Name the server and the key of the write (empty for a read)."""
        self.url = url
        self.idempotency_key = idempotency_key
        super().__init__(f"ANSWER_MALFORMED: What answers at {url} is no server of this network.")


class ProblemError(ClientError):
    """The server answered with a problem (RFC 9457).

    ``status`` is the HTTP status, ``code`` the stable code to decide by, ``problem`` the whole body, ``request_id``
    what the server's log calls this request, ``iso_reason`` the ISO 20022 reason or empty. ``str()`` says what happened
    and what to do: code, title, detail, and the fields.
    """

    def __init__(self, status: int, problem: dict[str, Any], idempotency_key: str = "") -> None:
        """Take the problem apart; a body that is none is reported as ``NO_PROBLEM``."""
        self.status = status
        self.problem = problem
        self.idempotency_key = idempotency_key
        self.code = str(problem.get("code", NO_PROBLEM))
        self.request_id = str(problem.get("request_id", ""))
        self.iso_reason = str(problem.get("iso_reason", ""))
        self.fields: dict[str, Any] = dict(problem.get("fields", {}))
        details = ", ".join((f"HTTP {status}", *(f"{name}={value}" for name, value in self.fields.items())))
        title = str(problem.get("title", "What answers gives no reason; it may be no server of this network."))
        detail = str(problem.get("detail", ""))
        super().__init__(f"{self.code}: {title}{f' {detail}' if detail else ''} ({details})")

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the signature was not accepted."""
        return self.status == 401

    @property
    def is_refused(self) -> bool:
        """Whether the request was understood and refused by a rule."""
        return self.status in (409, 422)
