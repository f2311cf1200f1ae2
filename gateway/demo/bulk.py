"""The wholesale day in signed bulk messages: one for each participant, which signs its own debits and nobody else's."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from gateway.cli.terminal import Meter
from gateway.demo.opening import Opening, each
from settlement.workload import Day, SyntheticParticipant

__all__ = ["Sent", "send_day", "uetr_text"]


@dataclass(slots=True)
class Sent:
    """What came of the bulk messages: payments accepted and refused, and each message's position by participant."""

    accepted: int = 0
    refused: int = 0
    positions: dict[int, int] = field(default_factory=dict)


def send_day(opening: Opening, day: Day, meter: Meter) -> Sent:
    """Send every payment of the day; a message of its own for each participant.

    Raises:
        ProblemError: a node has refused a whole message.
    """
    addresses = [opening.names.find(participant.bic.lower()).address for participant in day.participants]
    answers: dict[int, dict[str, Any]] = {}

    def send(participant: SyntheticParticipant) -> None:
        body = _body(day, participant.index, addresses)
        with opening.party(participant.ledger, participant.bic) as client:
            answers[participant.index] = client.pay_batch(body)
        meter.advance(len(body) - 1)

    senders = [participant for participant in day.participants if len(day.of_payer(participant.index))]
    each(senders, send, meter)
    return Sent(
        accepted=sum(answer["accepted_count"] for answer in answers.values()),
        refused=sum(answer["refused_count"] for answer in answers.values()),
        positions={index: answer["position"] for index, answer in answers.items()},
    )


def uetr_text(row: Any) -> str:
    """Write the UETR of one row of a day."""
    return str(uuid.UUID(int=(int(row["uetr_hi"]) << 64) | int(row["uetr_lo"])))


def _body(day: Day, payer: int, addresses: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "uetr": uetr_text(row),
            "debtor": addresses[payer],
            "creditor": addresses[int(row["payee"])],
            "money": {"asset": "CNY", "amount": str(int(row["amount"]))},
        }
        for row in day.of_payer(payer)
    ]
