"""The client: signs requests, sends them, tries again safely, and raises what the server answered as typed errors.

::

    from gateway.client import Client
    from gateway.config import load_key

    with Client("http://127.0.0.1:8701", load_key(path)) as client:
        receipt = client.pay(debtor="SH530000000012", creditor="HK…", asset="CNY", amount=12345)

Importing it brings neither FastAPI nor numba, so that a tool of a few lines starts at once.
"""

from __future__ import annotations

from gateway.client.book import BookTransfers
from gateway.client.errors import AnswerMalformed, ClientError, ProblemError, ServerUnreachable
from gateway.client.signing import Outgoing, Signer
from gateway.client.sync import Client

__all__ = [
    "AnswerMalformed",
    "BookTransfers",
    "Client",
    "ClientError",
    "Outgoing",
    "ProblemError",
    "ServerUnreachable",
    "Signer",
]
