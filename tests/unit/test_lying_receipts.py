"""Receipts of a node that lies: it builds a tree of its own, signs everything, and still cannot claim what it likes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from ledger import journal, logs, merkle, messages, receipts, signatures
from ledger.checkpoint import Checkpoint
from ledger.errors import IntegrityFailure
from ledger.genesis import Genesis, genesis_hash, network_hash
from ledger.journal import Header
from ledger.machine import message_leaf, record_leaf
from ledger.messages import Kind, Message
from ledger.receipts import FORMAT, join
from ledger.transfers import Flag, Result, Transfers, id_halves, transfers
from settlement import statements
from settlement.book import Group, group_of
from settlement.legs import Leg, TransferCode, leg_id
from settlement.payment_receipts import Claim, PaymentReceipt, verify
from settlement.statements import Completeness, DecisionBody
from settlement.views import PaymentStatus
from tests.receipt_fixture import PAIR
from tests.settlement_fixture import CREATED_NS, NETWORK, NETWORK_HASH, SECOND, key_of, money, uetr_of

UETR = uetr_of("lie")
NUMBER = int(UETR.replace("-", ""), 16)
DEBTOR, CREDITOR, ABROAD = "SH580000000019", "SH310000000020", "HK130000000024"
WINDOW = 3
ROOT = merkle.EMPTY_ROOT
ELSEWHERE = msgspec.structs.replace(PAIR["SH"], created_ns=CREATED_NS - 1)
"""The genesis of another network, which has the same name and the same keys."""


def request(topic: str = "/v1/payments", body: bytes | None = None, *, made_for: Genesis = PAIR["SH"]) -> Message:
    """Sign a payment as Ann, made for a ledger."""
    content = {"uetr": UETR, "debtor": DEBTOR, "creditor": CREDITOR, "money": money(500)}
    data = msgspec.json.encode(content) if body is None else body
    key = key_of("ann")
    base = signatures.signature_base(
        method="POST",
        authority="sh.hugang.example",
        path=topic,
        created=CREATED_NS // SECOND,
        expires=CREATED_NS // SECOND + 60,
        key_id=messages.key_id_of(messages.public_bytes(key)),
        genesis_hash=genesis_hash(made_for),
        content_type="application/json",
        content_digest=hashlib.sha256(data).digest(),
        idempotency_key="lie",
    )
    return Message(Kind.REQUEST, base, signatures.sign(key, base), data)


def listed(ledger: str = "SH", key: str = "NODE-SH") -> Message:
    """Sign something as a list."""
    return messages.statement(
        key_of(key), network_hash=NETWORK_HASH, ledger=ledger, kind="list", subject=f"{WINDOW}/0", body=b"rows"
    )


def records(*legs: int, **fields: Any) -> Transfers:
    """Give the payment's records, one for each leg."""
    rows = transfers(len(legs))
    rows["leg"], rows["amount"], rows["code"] = legs, 500, TransferCode.PAYMENT
    rows["debit"], rows["credit"] = 19, 20
    for row, leg in zip(rows, legs, strict=True):
        row["id_hi"], row["id_lo"] = id_halves(leg_id(NUMBER, leg))
    for name, value in fields.items():
        rows[name] = value
    return rows


def pending(kind: Group = Group.OUTGOING, window: int = WINDOW, **fields: Any) -> Transfers:
    """Give the records of a payment that waits for a window."""
    leg, code = (Leg.PAYER, TransferCode.PAYMENT) if kind is Group.OUTGOING else (Leg.PAYEE, TransferCode.INCOMING)
    usual = {"flags": int(Flag.PENDING), "group": group_of(window, kind), "code": code}
    return records(leg, **(usual | fields))


def claim(**fields: Any) -> Claim:
    """Claim that the payment is settled, but for some fields."""
    usual: dict[str, Any] = {
        "uetr": NUMBER.to_bytes(16, "big"),
        "status": PaymentStatus.SETTLED,
        "reason": Result.OK,
        "window": 0,
        "settled_ns": 0,
        "debtor": DEBTOR,
        "creditor": CREDITOR,
        "asset": "CNY",
        "creditor_asset": "CNY",
        "creditor_amount": 500,
    }
    return Claim(**(usual | fields))


def decision(
    *,
    ledger: str | None = None,
    key: str = "",
    body: bytes | None = None,
    said_in: Genesis = PAIR["SH"],
    **counts: int,
) -> Message:
    """Sign the commit of the window, with a body that counts what it likes."""
    last = statements.last_voter(WINDOW) if ledger is None else ledger
    left = sum(counts.values())
    root = hashlib.sha256(b"rows").digest() if counts.get("carried_out") else ROOT
    named = {"settled": 1, "cancelled": 0, "rejected": 0, "carried_out": 0} | counts
    direction = {
        at: Completeness(
            at, 0, 1 + left, named["settled"], named["cancelled"], named["rejected"], named["carried_out"], root
        )
        for at in statements.LEDGERS
    }
    made = DecisionBody(WINDOW, 1, ROOT, True, ROOT, ROOT, tuple(direction.values()))
    return messages.statement(
        key_of(key or f"NODE-{last}"),
        network_hash=network_hash(said_in),
        ledger=last,
        kind="decision",
        subject=f"{WINDOW}/1",
        body=statements.encode(made) if body is None else body,
    )


def forged(
    message: Message,
    rows: Transfers,
    claimed: Claim | bytes,
    *,
    ledger: str = "SH",
    whole: bool = True,
    evidence: Sequence[Message] = (),
    key: str = "ann",
) -> bytes:
    """Make a receipt over a tree that holds nothing but what it shows; all of it verifies as far as the ledger goes."""
    rows = rows.copy()
    rows["message"] = 0
    leaves = [message_leaf(message), *map(record_leaf, rows), *map(message_leaf, evidence)]
    hashes = np.frombuffer(b"".join(map(merkle.leaf_hash, leaves)), np.uint8).reshape(-1, 32)
    size, root = len(leaves), merkle.root(hashes)
    header = Header(
        ledger=ledger,
        height=1,
        first_position=0,
        entry_count=1 + len(evidence),
        expired_count=0,
        transfer_count=len(rows),
        timestamp_ns=CREATED_NS + 1,
        body_size=48 + rows.nbytes + (1 + len(evidence)) * 200,
        tree_size=size,
        previous_hash=ROOT,
        body_hash=ROOT,
        tree_root=root,
    )
    shared, proofs = receipts._shared([[], *(merkle.inclusion_proof(hashes, at) for at in range(size))])
    signer = key_of(f"NODE-{ledger}")
    content = receipts._Content(
        ledger=ledger,
        checkpoint=logs.sign_checkpoint(Checkpoint(logs.origin(NETWORK, ledger), size, root), signer),
        header=journal.encode_header(header),
        message=receipts._Message(
            position=0,
            key=messages.public_bytes(key_of(key)),
            kind=int(message.kind),
            base=message.base,
            signature=message.signature,
            body=message.body if whole else None,
        ),
        records=tuple(receipts._Record(1 + at, row.tobytes()) for at, row in enumerate(rows)),
        evidence=tuple(
            receipts._Evidence(1 + len(rows) + at, messages.encode(item)) for at, item in enumerate(evidence)
        ),
        claim=claimed if isinstance(claimed, bytes) else msgspec.msgpack.encode(claimed),
        hashes=shared,
        proofs=proofs,
    )
    data = msgspec.msgpack.encode(content)
    signature = signer.sign(f"{FORMAT}\n".encode() + hashlib.sha256(data).digest())
    return msgspec.msgpack.encode([FORMAT, [[data, signature]]])


def taken(receipt: bytes) -> PaymentReceipt:
    """Verify what must hold."""
    return verify(receipt, PAIR["SH"])


def contradicted(receipt: bytes, sentence: str) -> None:
    """Verify what must not."""
    with pytest.raises(IntegrityFailure, match=sentence) as caught:
        verify(receipt, PAIR["SH"])
    assert caught.value.code == "RECEIPT_CONTRADICTION"


def test_what_is_told_straight_is_taken() -> None:
    """The forger's receipts hold as long as claim, records and decision say the same."""
    assert taken(forged(request(), records(Leg.PAYER), claim())).is_status_proven
    waiting = claim(status=PaymentStatus.ACCEPTED, window=WINDOW)
    assert taken(forged(request(), pending(), waiting)).status is PaymentStatus.ACCEPTED
    settled = taken(forged(request(), pending(), claim(window=WINDOW), evidence=[decision()]))
    assert (settled.status, settled.is_status_proven) == (PaymentStatus.SETTLED, True)
    there = claim(window=WINDOW, creditor=ABROAD)
    rows = pending(Group.INCOMING, credit=24)
    assert taken(
        forged(listed(), rows, there, whole=False, evidence=[decision()], key="NODE-SH", ledger="HK")
    ).is_status_proven


@pytest.mark.parametrize("counts", [{"cancelled": 1}, {"rejected": 1}, {"carried_out": 1}])
def test_a_window_with_leftovers_proves_less(counts: dict[str, int]) -> None:
    """With a payment cancelled, rejected or carried out, the payer's ledger no longer proves that this one settled."""
    found = taken(forged(request(), pending(), claim(window=WINDOW), evidence=[decision(**counts)]))
    assert (found.status, found.is_status_proven) == (PaymentStatus.SETTLED, False)
    there, rows = claim(window=WINDOW, creditor=ABROAD), pending(Group.INCOMING, credit=24)
    payee = forged(listed(), rows, there, whole=False, evidence=[decision(**counts)], key="NODE-SH", ledger="HK")
    assert taken(payee).is_status_proven is ("carried_out" not in counts)


def test_a_payment_accepted_earlier_is_stated() -> None:
    """That a payment accepted for an earlier window settled in a later one is what the payer's node states."""
    found = taken(forged(request(), pending(window=WINDOW - 1), claim(window=WINDOW), evidence=[decision()]))
    assert not found.is_status_proven


def test_legs_of_which_some_were_refused() -> None:
    """Legs are applied together or not at all: a receipt that shows both is contradicted."""
    rows = records(Leg.PAYER, Leg.PAYEE)
    rows["result"][1] = Result.CREDIT_CLOSED
    contradicted(forged(request(), rows, claim()), "not one that records and decision allow")


def test_records_that_are_not_the_payments() -> None:
    """Another topic, another code, another first leg, another item and another id are contradicted."""
    contradicted(forged(listed(), records(Leg.PAYER), claim(), whole=False, key="NODE-SH"), "not those of a payment")
    contradicted(forged(request(), records(Leg.PAYER, code=TransferCode.NET), claim()), "not those of a payment")
    contradicted(forged(request(), records(Leg.FEE), claim()), "not the legs of one payment")
    rows = records(Leg.PAYER, Leg.FEE)
    rows["item"][1] = 1
    contradicted(forged(request(), rows, claim()), "not the legs of one payment")
    contradicted(forged(request(), records(Leg.PAYER, id_lo=5), claim()), "not those of the payment that is claimed")


def test_records_of_the_payees_ledger() -> None:
    """An incoming record by another message, another speaker, of another leg or another id is contradicted."""
    there = claim(window=WINDOW, creditor=ABROAD, status=PaymentStatus.ACCEPTED)
    rows = pending(Group.INCOMING, credit=24)
    sentence = "not that of the payment on its payee's ledger"
    contradicted(forged(request(made_for=PAIR["HK"]), rows, there, ledger="HK"), sentence)
    contradicted(forged(listed("HK", "NODE-SH"), rows, there, whole=False, key="NODE-SH", ledger="HK"), sentence)
    for changes in ({"leg": int(Leg.PROVIDER_PAYS)}, {"id_lo": 5}):
        other = pending(Group.INCOMING, credit=24, **changes)
        contradicted(forged(listed(), other, there, whole=False, key="NODE-SH", ledger="HK"), sentence)
    wrong_group = pending(Group.INCOMING, credit=24, group=group_of(WINDOW, Group.OUTGOING))
    contradicted(forged(listed(), wrong_group, there, whole=False, key="NODE-SH", ledger="HK"), "not one that records")


def test_a_request_made_for_the_other_ledger() -> None:
    """A node that journals what its payer, with the same key on both ledgers, made for the other one is found out."""
    for made_for, ledger in (("HK", "SH"), ("SH", "HK")):
        lie = forged(request(made_for=PAIR[made_for]), records(Leg.PAYER), claim(), ledger=ledger)
        for trusted in ((PAIR["SH"],), (PAIR["HK"],), (PAIR["SH"], PAIR["HK"]), (PAIR["HK"], PAIR["SH"])):
            with pytest.raises(IntegrityFailure, match="made for another ledger") as caught:
                verify(lie, *trusted)
            assert caught.value.code == "RECEIPT_INVALID"


def test_a_request_made_for_a_third_ledger() -> None:
    """What was made for a third ledger is found out by the genesis of the one that shows it; else it is not proven."""
    lie = forged(request(made_for=ELSEWHERE), records(Leg.PAYER), claim())
    for trusted in ((PAIR["SH"],), (PAIR["SH"], PAIR["HK"]), (PAIR["HK"], PAIR["SH"])):
        with pytest.raises(IntegrityFailure, match="made for another ledger"):
            verify(lie, *trusted)
    assert not verify(lie, PAIR["HK"]).is_addressee_proven
    straight = forged(request(), records(Leg.PAYER), claim())
    assert verify(straight, PAIR["SH"]).is_addressee_proven
    assert verify(straight, PAIR["HK"], PAIR["SH"]).is_addressee_proven
    assert not verify(straight, PAIR["HK"]).is_addressee_proven


def test_a_decision_of_another_network_of_the_same_name() -> None:
    """The decision that the same keys signed in another network, which shares the name, is no evidence here."""
    settled = claim(window=WINDOW)
    lie = forged(request(), pending(), settled, evidence=[decision(said_in=ELSEWHERE)])
    with pytest.raises(IntegrityFailure, match="no statement by a party of the genesis") as caught:
        verify(lie, PAIR["SH"])
    assert caught.value.code == "RECEIPT_INVALID"


def test_the_two_genesis_must_be_a_pair() -> None:
    """A receipt is not held to two documents of one ledger, or of two networks that share a name."""
    straight = forged(request(), records(Leg.PAYER), claim())
    for other in (PAIR["SH"], ELSEWHERE, msgspec.structs.replace(PAIR["HK"], created_ns=CREATED_NS + 1)):
        with pytest.raises(IntegrityFailure, match="GENESIS_PAIR"):
            verify(straight, PAIR["SH"], other)


def test_nobody_is_no_address() -> None:
    """Records that name no account at all are contradicted, not stumbled over."""
    contradicted(forged(request(), records(Leg.PAYER, debit=0), claim()), "The debtor is another account")
    contradicted(forged(request(), records(Leg.PAYER, credit=0), claim()), "The creditor or the amount")


def test_bodies_that_say_something_else() -> None:
    """A body of many payments, one that cannot be read, and one of another amount are contradicted."""
    many = msgspec.json.encode({"payments": []})
    contradicted(forged(request("/v1/batches", many), records(Leg.PAYER), claim()), "Only a payment that was sent")
    contradicted(forged(request(body=b"{"), records(Leg.PAYER), claim()), "The body cannot be read")
    contradicted(forged(request(), records(Leg.PAYER, amount=501), claim(creditor_amount=501)), "not what the payer")


def test_decisions_that_are_none() -> None:
    """A decision by the node that does not decide, by a stranger in its name, or of no form is contradicted."""
    settled = claim(window=WINDOW)
    first, _ = statements.voters(WINDOW)
    for evidence in ([decision(ledger=first)], [decision(key=f"NODE-{first}")]):
        contradicted(forged(request(), pending(), settled, evidence=evidence), "not by the node that decides")
    contradicted(forged(request(), pending(), settled, evidence=[decision(body=b"nonsense")]), "cannot be read")
    contradicted(forged(request(), pending(), settled, evidence=[decision()] * 2), "not one decision")
    contradicted(forged(request(), pending(), settled, evidence=[listed()]), "not one decision")


def test_two_nodes_that_disagree() -> None:
    """A payer's part that says rejected beside a payee's that says settled, or other amounts, are contradicted."""
    waiting = claim(window=WINDOW, creditor=ABROAD, status=PaymentStatus.REJECTED, reason=Result.PAYEE_CLOSED)
    body = msgspec.json.encode({"uetr": UETR, "debtor": DEBTOR, "creditor": ABROAD, "money": money(500)})
    payer = forged(request(body=body), pending(), waiting)
    there, rows = claim(window=WINDOW, creditor=ABROAD), pending(Group.INCOMING, credit=24)
    payee = forged(listed(), rows, there, whole=False, evidence=[decision()], key="NODE-SH", ledger="HK")
    contradicted(join(payer, payee), "say different things")
    settled = claim(window=WINDOW, creditor=ABROAD, creditor_amount=499)
    other = forged(request(body=body), pending(), settled, evidence=[decision()])
    contradicted(join(other, payee), "say different things")


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode(["x"] * 10)])
def test_claims_that_cannot_be_read(data: bytes) -> None:
    """A claim that is no claim is contradicted."""
    contradicted(forged(request(), records(Leg.PAYER), data), "The claim cannot be read")
