"""What can go wrong between a client and a server."""

from __future__ import annotations

from typing import Any

__all__ = ["ClientError", "ProblemError", "ServerUnreachable"]


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
        super().__init__(f"no answer from {url}")


class ProblemError(ClientError):
    """The server answered with a problem (RFC 9457).

    ``status`` is the HTTP status, ``code`` the stable code to decide by, ``problem`` the whole body, ``request_id``
    what the server's log calls this request, ``iso_reason`` the ISO 20022 reason or empty.
    """

    def __init__(self, status: int, problem: dict[str, Any], idempotency_key: str = "") -> None:
        """Take the problem apart; a body that is none is reported as ``NO_PROBLEM``."""
        self.status = status
        self.problem = problem
        self.idempotency_key = idempotency_key
        self.code = str(problem.get("code", "NO_PROBLEM"))
        self.request_id = str(problem.get("request_id", ""))
        self.iso_reason = str(problem.get("iso_reason", ""))
        self.fields: dict[str, Any] = dict(problem.get("fields", {}))
        super().__init__(f"{status} {self.code}: {problem.get('title', 'the server answered without a reason')}")

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the signature was not accepted."""
        return self.status == 401

    @property
    def is_refused(self) -> bool:
        """Whether the request was understood and refused by a rule."""
        return self.status in (409, 422)
