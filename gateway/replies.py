"""What a journaled message is answered with, made from its records alone: a retry is answered the same (I8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from gateway.node import Node
from gateway.problems import Problem, refusal_of
from gateway.repeats import FirstUses, repetition
from gateway.schemas import uuid_text
from ledger.accounts import address
from ledger.machine import Admitted, Answer
from ledger.transfers import Result, Transfers, id_of
from settlement import drafts
from settlement.bodies import (
    AccountClassesBody,
    AccountsBody,
    AddressesBody,
    CancellationBody,
    CapsBody,
    ClockBody,
    IssuancesBody,
    KeyBody,
    Offer,
    ParticipantBody,
    PartiesBody,
    PaymentItems,
    RevocationBody,
    RotationBody,
)
from settlement.book import RulesVersion, window_of
from settlement.interpreter import COLUMNS_TOPIC
from settlement.repeats import requests_of
from settlement.views import ISO_STATUS, PaymentStatus

__all__ = ["Journaled", "item_outcomes", "journaled", "outcome_of", "reply_to"]

_PAYMENTS = "/v1/payments"


@dataclass(frozen=True, slots=True)
class Journaled:
    """A message that is journaled: where, in which block, and the records it derived."""

    answer: Answer
    block_hash: bytes
    records: Transfers

    def receipt(self) -> dict[str, Any]:
        """Say where it stands."""
        return {
            "position": self.answer.position,
            "record_count": self.answer.count,
            "block_height": self.answer.height,
            "block_hash": self.block_hash.hex(),
        }


async def journaled(node: Node, answer: Answer) -> Journaled:
    """Find a message's block and records: in memory if it is recent, else on the disk."""
    recalled = node.store.recall(answer)
    if recalled is None:
        recalled = await node.runtime.offload(_read, node, answer)
    return Journaled(answer, *recalled)


async def reply_to(
    node: Node, admitted: Admitted, found: Journaled, request_id: str
) -> tuple[int, dict[str, Any]] | Problem:
    """Make the answer to a message: a status and the content of ``data``, or the problem of its refusal.

    A payment that was asked for before, all of it the same, gets the answer to the first one again.
    """
    made = _REPLIES[admitted.envelope.topic](node, admitted, found, request_id)
    if isinstance(made, Problem) and made.body["code"] == Result.ID_EXISTS.name:
        return await node.runtime.offload(_again, node, admitted, found, request_id, made)
    return made


def _again(
    node: Node, admitted: Admitted, found: Journaled, request_id: str, made: Problem
) -> tuple[int, dict[str, Any]] | Problem:
    """Say what came of the first use of an id, or in which field it differs and where it stands."""
    firsts, topic = FirstUses(node), admitted.envelope.topic
    requests = requests_of(topic, admitted.message.body)
    first, field = repetition(firsts, found.records, topic, requests, 0)
    if topic != _PAYMENTS:
        return replace(made, body=made.body | first.members())
    if field is not None:
        return replace(made, body=made.body | first.members() | {"field": field})
    answer = Answer(first.position, first.record_count, first.height, found.answer.digest)
    told = _payment(node, admitted, Journaled(answer, first.block_hash, first.records), request_id)
    if not isinstance(told, Problem):
        return told[0], told[1] | {"repeated": True}
    body = told.body | {"repeated": True}
    if body["code"] == Result.ID_EXISTS.name:  # it was refused for another of its ids
        taken, field = repetition(firsts, first.records, topic, requests, 0)
        body |= taken.members() | {"field": field}
    return replace(told, body=body)


def item_outcomes(records: Transfers, count: int) -> list[Result]:
    """Give the outcome of each of a message's ``count`` items from its records, which are in order of item."""
    items, results = records["item"], records["result"]
    bounds = np.searchsorted(items, np.arange(count + 1))
    outcomes = [Result.OK] * count
    for item in np.unique(items[results != 0]).tolist():
        outcomes[item] = outcome_of(records[bounds[item] : bounds[item + 1]])
    return outcomes


def outcome_of(records: Transfers) -> Result:
    """Give the outcome of one item from its own records."""
    results = records["result"]
    if not results.any():
        return Result.OK
    return Result(int(results[0])) if len(records) == 1 else drafts.reason_of(records["leg"], results)


def _status(status: PaymentStatus) -> dict[str, str]:
    return {"state": status.value, "iso_status": ISO_STATUS[status]}


def _read(node: Node, answer: Answer) -> tuple[bytes, Transfers]:
    return hashlib.sha256(node.store.header(answer.height)).digest(), node.reader.answer_records(answer)


# --- by topic ---------------------------------------------------------------------------------------------------------


def _payment(_: Node, admitted: Admitted, found: Journaled, request_id: str) -> tuple[int, dict[str, Any]] | Problem:
    items: PaymentItems = admitted.content
    uetr = uuid_text(id_of(items.rows["uetr_hi"][0], items.rows["uetr_lo"][0]))
    outcome = outcome_of(found.records)
    if outcome is not Result.OK:
        return refusal_of(outcome, request_id, uetr=uetr, **_status(PaymentStatus.REFUSED), **found.receipt())
    group = int(found.records["group"][0])
    status = PaymentStatus.ACCEPTED if group else PaymentStatus.SETTLED
    data = {"uetr": uetr, **_status(status), **found.receipt()}
    if group:
        data["window"] = window_of(group)[0]
    return 201, data


def _batch(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    items: PaymentItems | Transfers = admitted.content
    count = len(items.rows) if isinstance(items, PaymentItems) else len(items)
    refused = len(np.unique(found.records["item"][found.records["result"] != 0]))
    data = {"item_count": count, "accepted_count": count - refused, "refused_count": refused, **found.receipt()}
    return 202, data


def _parties(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    body: PartiesBody = admitted.content
    return 201, {"parties": [party.code for party in body.parties], **found.receipt()}


def _key(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    body: KeyBody = admitted.content
    key_id = hashlib.sha256(bytes.fromhex(body.public_key)).hexdigest()
    return 201, {"party": body.party, "key_id": key_id, **found.receipt()}


def _revocation(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    body: RevocationBody = admitted.content
    return 201, {"key_id": body.key_id, **found.receipt()}


def _rotation(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    """Name the new key; the answer to a retry, which only that one can sign, is the same."""
    body: RotationBody = admitted.content
    return 201, {"key_id": hashlib.sha256(bytes.fromhex(body.public_key)).hexdigest(), **found.receipt()}


def _participant(node: Node, admitted: Admitted, found: Journaled, _: str) -> tuple[int, dict[str, Any]]:
    body: ParticipantBody = admitted.content
    accounts = [address(node.genesis.ledger, number) for number in node.book.openings[found.answer.position]]
    return 201, {"assets": list(body.assets), "accounts": accounts, **found.receipt()}


def _accounts(node: Node, admitted: Admitted, found: Journaled, _: str) -> tuple[int, dict[str, Any]]:
    body: AccountsBody = admitted.content
    opened = node.book.openings[found.answer.position]
    accounts = [
        {
            "address": address(node.genesis.ledger, number),
            "owner": account.owner,
            "asset": account.asset,
            **({} if account.klass is msgspec.UNSET else {"class": account.klass}),
        }
        for number, account in zip(opened, body.accounts, strict=True)
    ]
    return 201, {"accounts": accounts, **found.receipt()}


def _addresses(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    body: AddressesBody = admitted.content
    return 201, {"accounts": list(body.accounts), **found.receipt()}


def _caps(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    body: CapsBody = admitted.content
    return 201, {"caps": msgspec.to_builtins(body.caps), **found.receipt()}


def _classes(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    body: AccountClassesBody = admitted.content
    return 201, {"accounts": msgspec.to_builtins(body.accounts), **found.receipt()}


def _rules(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    version: RulesVersion = admitted.content
    return 201, {"rules": version.rules, "classes": [rule.name for rule in version.classes], **found.receipt()}


def _clock(_: Node, admitted: Admitted, found: Journaled, __: str) -> tuple[int, dict[str, Any]]:
    body: ClockBody = admitted.content
    return 201, {"advance_s": body.advance_s, **found.receipt()}


def _issuances(_: Node, admitted: Admitted, found: Journaled, request_id: str) -> tuple[int, dict[str, Any]] | Problem:
    """Give a result by item; one issuance alone that was refused is a refusal."""
    body: IssuancesBody = admitted.content
    outcomes = item_outcomes(found.records, len(body.issuances))
    if len(outcomes) == 1 and outcomes[0] is not Result.OK:
        return refusal_of(outcomes[0], request_id, id=body.issuances[0].id, **found.receipt())
    results = [
        {"id": issuance.id, "result": outcome.name} for issuance, outcome in zip(body.issuances, outcomes, strict=True)
    ]
    return 201, {"issuances": results, **found.receipt()}


def _quote(_: Node, admitted: Admitted, found: Journaled, request_id: str) -> tuple[int, dict[str, Any]] | Problem:
    offer: Offer = admitted.content
    outcome = outcome_of(found.records)
    if outcome is not Result.OK:
        return refusal_of(outcome, request_id, quote=uuid_text(offer.quote), **found.receipt())
    return 201, {"quote": uuid_text(offer.quote), **found.receipt()}


def _cancellation(
    _: Node, admitted: Admitted, found: Journaled, request_id: str
) -> tuple[int, dict[str, Any]] | Problem:
    body: CancellationBody = admitted.content
    outcome = outcome_of(found.records)
    if outcome is not Result.OK:
        return refusal_of(outcome, request_id, uetr=body.uetr, **found.receipt())
    return 201, {"uetr": body.uetr, **_status(PaymentStatus.CANCELLED), **found.receipt()}


_REPLIES: dict[str, Callable[[Node, Admitted, Journaled, str], tuple[int, dict[str, Any]] | Problem]] = {
    "/v1/parties": _parties,
    "/v1/keys": _key,
    "/v1/keys/revocations": _revocation,
    "/v1/keys/rotations": _rotation,
    "/v1/participants": _participant,
    "/v1/accounts": _accounts,
    "/v1/accounts/closings": _addresses,
    "/v1/accounts/reopenings": _addresses,
    "/v1/issuances": _issuances,
    "/v1/accounts/classes": _classes,
    "/v1/rules": _rules,
    "/v1/caps": _caps,
    "/v1/clock": _clock,
    "/v1/quotes": _quote,
    _PAYMENTS: _payment,
    "/v1/batches": _batch,
    COLUMNS_TOPIC: _batch,
    "/v1/cancellations": _cancellation,
}
