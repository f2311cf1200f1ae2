"""Receipts of payments: which leaves prove one payment, and what they prove.

``plan_receipt`` says, in the writer's turn, what a receipt of a payment has to show; ``make`` makes it, anywhere.
``verify`` reads one back from public keys alone and says of every fact whether it is proven or what the node states:

=======================  ===============================================================================================
fact                     proven by
=======================  ===============================================================================================
amounts, accounts        the records: leaves of the tree
what was asked for       the body that the payer has signed, when the payment was sent by itself
refused or rejected      the records' results; which of the legs not shown was at fault is stated
settled at once          the records: posted, not pending
accepted for a window    the payer's records: pending; seen from the payee's ledger it is stated
settled in a window      the decision, where all payments settled that this one can be among: seen from the payer's
                         ledger, none was cancelled, rejected or carried out; from the payee's, none was carried out
=======================  ===============================================================================================

In a window with rejections or payments carried out, that this payment is among the settled ones is the node's word, and
the window's certificate proves it. So it is with what became of a payment later: a receipt shows a moment. Of many
payments under one signature only this one's records are shown, and of the message its base; whoever has the body can
check it against the digest there.

Only legs are shown that debit the payer or credit the payee, and the fee: a provider's side of an exchange is not
theirs to see.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Annotated, NoReturn

import msgspec
import numpy as np

from ledger import messages
from ledger.accounts import address, parse_address
from ledger.errors import IntegrityFailure, LedgerError, NotFound
from ledger.genesis import Genesis
from ledger.machine import Machine
from ledger.receipts import PartView, ReceiptView, Source, Wanted, make_receipt, verify_receipt
from ledger.transfers import Flag, Result, id_of
from settlement import statements
from settlement.bodies import PaymentBody
from settlement.book import Book, Group, window_of
from settlement.legs import Leg, TransferCode, leg_id
from settlement.places import incoming_place, payee_ids, peer_party
from settlement.speakers import speaks
from settlement.statements import DecisionBody, last_voter
from settlement.views import PaymentStatus, PaymentView

__all__ = ["Claim", "PaymentReceipt", "Plan", "make", "plan_receipt", "verify"]

SIBLING_COUNT_MAX = 10
"""Legs of one payment on one ledger."""
_SHOWN = (Leg.PAYER, Leg.PAYEE, Leg.FEE)
_SINGLE = "/v1/payments"


class Claim(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a node says of a payment beside what its records prove; ``window`` and ``settled_ns`` are zero for none."""

    uetr: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    status: PaymentStatus
    reason: Result
    window: Annotated[int, msgspec.Meta(ge=0, le=statements.WINDOW_MAX)]
    settled_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    debtor: Annotated[str, msgspec.Meta(min_length=14, max_length=14)]
    creditor: Annotated[str, msgspec.Meta(min_length=14, max_length=14)]
    asset: Annotated[str, msgspec.Meta(max_length=12)]
    creditor_asset: Annotated[str, msgspec.Meta(max_length=12)]
    creditor_amount: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    """Zero while only the other ledger knows it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a receipt has to show: the payment's first leg here, the decision's position if there is one, the claim."""

    position: int
    decision: int | None
    claim: Claim


@dataclass(frozen=True, slots=True)
class PaymentReceipt:
    """A payment's receipt that was verified; amounts in minor units.

    Attributes:
        uetr: the payment's name.
        status: where the payment stood, and ``reason`` why (``Result``).
        is_status_proven: whether the status follows from leaves and signatures; if not, a node states it.
        is_body_shown: whether debtor, creditor, assets and amount are those of a body that the payer has signed.
        is_addressee_proven: whether the payer's request is known to have been made for the ledger that has journaled
            it; the genesis of that ledger is needed for it, with the other's alone its node states it.
        window: the window it is in, ``None`` for a payment that was decided at once.
        settled_ns: the instant of the decision on the ledger that states it, zero if there was none.
        debtor, creditor: addresses.
        asset, amount: what leaves the debtor; the amount is ``None`` if only the payee's ledger speaks.
        creditor_asset, creditor_amount: what reaches the creditor; zero if it is not known here.
        receipt: the proofs.
    """

    uetr: str
    status: PaymentStatus
    reason: Result
    is_status_proven: bool
    is_body_shown: bool
    is_addressee_proven: bool
    window: int | None
    settled_ns: int
    debtor: str
    creditor: str
    asset: str
    amount: int | None
    creditor_asset: str
    creditor_amount: int
    receipt: ReceiptView


# --- making -----------------------------------------------------------------------------------------------------------


def plan_receipt(machine: Machine, book: Book, view: PaymentView) -> Plan:
    """Say what proves a payment here; called in the writer's turn, with the payment as it stands in that moment.

    Raises:
        NotFound: ``PAYMENT_NOT_FOUND``, nothing of it is journaled here.
    """
    position = view.record_position
    if view.incoming:
        peer = peer_party(machine)
        place = incoming_place(book, machine.state, peer, view.uetr)
        ids = () if place is None else payee_ids(view.uetr, place.window)
        entries = [machine.state.lookup(peer, identifier) for identifier in ids]
        found = next((entry for entry in entries if entry is not None), None)
        if found is None:
            raise NotFound("PAYMENT_NOT_FOUND", "There is no payment with this UETR that concerns the signer.")
        position = found.position
    decided = view.status is PaymentStatus.SETTLED and view.window is not None
    claim = Claim(
        uetr=view.uetr.to_bytes(16, "big"),
        status=view.status,
        reason=view.reason,
        window=view.window or 0,
        settled_ns=view.settled_ns or 0,
        debtor=view.debtor,
        creditor=view.creditor,
        asset=view.asset,
        creditor_asset=view.creditor_asset,
        creditor_amount=view.creditor_amount or 0,
    )
    return Plan(position, view.settled_position if decided else None, claim)


def make(source: Source, plan: Plan, note: bytes, machine: Machine) -> bytes:
    """Make a payment's receipt against a checkpoint; blocks for a few reads of the store.

    Args:
        source: the node's journal.
        plan: what to show.
        note: a checkpoint whose tree holds all of it.
        machine: for the key behind the message's key id; keys are never removed.

    Raises:
        NotFound: as ``make_receipt``; ``RECEIPT_UNPROVEN``, the receipt does not verify. What others have signed may
            be the cause, so this is an answer to whoever asks, and no failure of the node.
        IntegrityFailure: the journal cannot be read, or is not in the tree that the node has signed.
    """
    first = source.reader.record(plan.position)
    message = int(first["message"])
    entry = source.reader.entry(message)
    count = min(SIBLING_COUNT_MAX, message + entry.count + 1 - plan.position)
    legs = source.reader.records(plan.position, count)
    payee = parse_address(plan.claim.creditor)[1] if plan.claim.creditor.startswith(source.genesis.ledger) else 0
    shown = np.isin(legs["leg"], _SHOWN) | (legs["credit"] == payee) & (payee > 0)
    mine = np.flatnonzero((legs["item"] == first["item"]) & shown)
    if first["code"] == TransferCode.INCOMING:
        mine = mine[:1]
    envelope = messages.parse(entry.message)
    wanted = Wanted(
        note=note,
        message=message,
        key=machine.directory.keys[envelope.key_id].public_key,
        is_whole=envelope.topic == _SINGLE,
        records=tuple((plan.position + mine).tolist()),
        evidence=() if plan.decision is None else (plan.decision,),
        claim=msgspec.msgpack.encode(plan.claim),
    )
    return _verified(source, wanted)


def _verified(source: Source, wanted: Wanted) -> bytes:
    """Make a receipt and check it as whoever gets it will.

    Raises:
        NotFound, IntegrityFailure: as ``make``.
    """
    try:
        receipt = make_receipt(source, wanted)
        verify(receipt, source.genesis)
    except IntegrityFailure as error:
        if not error.code.startswith("RECEIPT_") or _is_damage(error):
            raise
        raise NotFound("RECEIPT_UNPROVEN", "The receipt does not verify.", failure=error.code) from error
    return receipt


def _is_damage(error: IntegrityFailure) -> bool:
    """Whether proofs have failed: what is stored is then not the tree that this node has signed, whoever said what."""
    cause = error.__cause__
    return isinstance(cause, IntegrityFailure) and cause.code in (
        "INCLUSION_PROOF_INVALID",
        "CONSISTENCY_PROOF_INVALID",
    )


# --- verifying --------------------------------------------------------------------------------------------------------


def verify(receipt: bytes, genesis: Genesis, peer: Genesis | None = None) -> PaymentReceipt:
    """Check a payment's receipt from the keys of a genesis alone.

    Args:
        receipt: its bytes.
        genesis: that of either ledger.
        peer: that of the other one, where it is at hand.

    Raises:
        IntegrityFailure: as ``verify_receipt``; ``RECEIPT_CONTRADICTION``, what the node claims is not what its records
            show, or the two ledgers' parts are not of one payment.
    """
    view = verify_receipt(receipt, genesis, peer)
    try:
        parts = [_Part.of(part, genesis) for part in view.parts]
    except LedgerError as error:
        raise IntegrityFailure("RECEIPT_CONTRADICTION", error.sentence) from error
    payer = next((part for part in parts if not part.is_incoming), None)
    payee = next((part for part in parts if part.is_incoming), None)
    if len(parts) == 2:
        if payer is None or payee is None:
            _contradiction("The two parts are not a payer's and a payee's.")
        _check_pair(payer, payee)
    told = payer or payee or parts[0]
    latest = max(parts, key=lambda part: part.claim.status is not PaymentStatus.ACCEPTED)
    claim = latest.claim
    return PaymentReceipt(
        uetr=str(uuid.UUID(bytes=claim.uetr)),
        status=claim.status,
        reason=claim.reason,
        is_status_proven=any(part.proves_status for part in parts if part.claim.status is claim.status),
        is_body_shown=told.is_body_shown,
        is_addressee_proven=all(part.is_addressee_proven for part in view.parts),
        window=claim.window or None,
        settled_ns=claim.settled_ns,
        debtor=told.claim.debtor,
        creditor=told.claim.creditor,
        asset=told.claim.asset,
        amount=None if payer is None else payer.amount,
        creditor_asset=told.claim.creditor_asset,
        creditor_amount=max(part.claim.creditor_amount for part in parts),
        receipt=view,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One part, with its claim held against its records."""

    view: PartView
    claim: Claim
    decision: DecisionBody | None

    @classmethod
    def of(cls, view: PartView, genesis: Genesis) -> _Part:
        """Read a part's claim and check it.

        Raises:
            IntegrityFailure: ``RECEIPT_CONTRADICTION``.
            LedgerError: the decision is not of its form.
        """
        try:
            claim = msgspec.msgpack.decode(view.claim, type=Claim)
        except (msgspec.DecodeError, ValueError) as error:
            raise IntegrityFailure("RECEIPT_CONTRADICTION", f"The claim cannot be read: {error}") from error
        if msgspec.msgpack.encode(claim) != view.claim:
            _contradiction("The claim is not in its canonical form.")
        part = cls(view, claim, _decision_of(view, claim, genesis))
        part._check_names(genesis)
        part._check_accounts()
        part._check_status()
        return part

    @property
    def uetr(self) -> int:
        return int.from_bytes(self.claim.uetr, "big")

    @property
    def is_incoming(self) -> bool:
        return bool(self.view.records[0]["code"] == TransferCode.INCOMING)

    @property
    def is_pending(self) -> bool:
        return bool(int(self.view.records[0]["flags"]) & Flag.PENDING)

    @property
    def amount(self) -> int:
        return int(self.view.records[0]["amount"])

    @property
    def is_body_shown(self) -> bool:
        return self.view.body is not None

    @property
    def proves_status(self) -> bool:
        """Whether records and decision leave no other status at the moment of the receipt."""
        status = self.claim.status
        if self.decision is not None:
            return self._is_settled_for_certain(self.decision)
        if status is PaymentStatus.REJECTED:
            return self.is_incoming
        if status is PaymentStatus.ACCEPTED:
            # What the payee's node has held the payer's may have let go by leaving it out of its next list.
            return not self.is_incoming
        return status is not PaymentStatus.CANCELLED

    def _is_settled_for_certain(self, decision: DecisionBody) -> bool:
        """Whether all payments settled that this one can be among."""
        payer = self.view.envelope.ledger if self.is_incoming else self.view.ledger
        counts = decision.directions[statements.LEDGERS.index(payer)]
        if self.is_incoming:
            return counts.carried_out == 0
        accepted_in, _ = window_of(int(self.view.records[0]["group"]))
        left = counts.cancelled + counts.rejected + counts.carried_out
        # A list that is full may have left payments to the next window without counting them.
        is_full = counts.settled >= statements.LIST_COUNT_MAX
        return accepted_in == decision.window and left == 0 and not is_full

    def _check_names(self, genesis: Genesis) -> None:
        """Check that message and records are those of the payment that is claimed."""
        records, uetr, topic = self.view.records, self.uetr, self.view.envelope.topic
        ids = [id_of(row["id_hi"], row["id_lo"]) for row in records]
        if self.is_incoming:
            permitted = payee_ids(uetr, self.claim.window)
            listed = topic == "statement:list" and speaks(self.view.envelope, genesis)
            if not listed or len(ids) != 1 or records[0]["leg"] != Leg.PAYEE or ids[0] not in permitted:
                _contradiction("The record is not that of the payment on its payee's ledger.")
            return
        if not topic.startswith("/v1/") or np.any(records["code"] != TransferCode.PAYMENT):
            _contradiction("The records are not those of a payment.")
        legs = records["leg"].tolist()
        if legs[0] != Leg.PAYER or np.any(records["item"] != records[0]["item"]):
            _contradiction("The records are not the legs of one payment.")
        if ids != [leg_id(uetr, leg) for leg in legs]:
            _contradiction("The records are not those of the payment that is claimed.")

    def _check_accounts(self) -> None:
        """Check the claimed parties and amounts against records and body."""
        first, claim, ledger = self.view.records[0], self.claim, self.view.ledger
        if not self.is_incoming and claim.debtor != _address(ledger, first["debit"]):
            _contradiction("The debtor is another account than the one that was debited.")
        reached = {(_address(ledger, row["credit"]), int(row["amount"])) for row in self.view.records}
        has_reached = first["result"] == Result.OK and (self.is_incoming or not self.is_pending)
        if has_reached and (claim.creditor, claim.creditor_amount) not in reached:
            _contradiction("The creditor or the amount is not that of the records.")
        if self.view.body is None or self.is_incoming:
            return
        if self.view.envelope.topic != _SINGLE:
            _contradiction("Only a payment that was sent by itself is shown whole.")
        self._check_body(self.view.body)

    def _check_body(self, data: bytes) -> None:
        try:
            body = msgspec.json.decode(data, type=PaymentBody)
        except (msgspec.DecodeError, ValueError) as error:
            raise IntegrityFailure("RECEIPT_CONTRADICTION", f"The body cannot be read: {error}") from error
        received = body.money.asset if body.creditor_asset is msgspec.UNSET else body.creditor_asset
        signed = (body.uetr, body.debtor, body.creditor, body.money.asset, received, int(body.money.amount))
        claim = self.claim
        named = str(uuid.UUID(bytes=claim.uetr))
        if signed != (named, claim.debtor, claim.creditor, claim.asset, claim.creditor_asset, self.amount):
            _contradiction("What is claimed is not what the payer has signed.")

    def _check_status(self) -> None:
        """Check that records and decision allow the status that is claimed."""
        status, applied = self.claim.status, self.view.records["result"] == Result.OK
        if not np.any(applied):
            expected = PaymentStatus.REJECTED if self.is_incoming else PaymentStatus.REFUSED
            fits = status is expected and self.claim.reason != Result.OK and self.decision is None
        elif not np.all(applied):
            fits = False
        elif not self.is_pending:
            settled = status is PaymentStatus.SETTLED and not self.claim.window
            fits = settled and not self.is_incoming and self.decision is None
        else:
            window, kind = window_of(int(self.view.records[0]["group"]))
            if self.is_incoming:
                fits = kind is Group.INCOMING and window == self.claim.window and status is not PaymentStatus.REJECTED
            else:
                fits = kind is Group.OUTGOING and 0 < window <= self.claim.window
            fits &= status is not PaymentStatus.REFUSED
            fits &= (status is PaymentStatus.SETTLED) is (self.decision is not None)
        if not fits:
            _contradiction("The status is not one that records and decision allow.")


def _decision_of(view: PartView, claim: Claim, genesis: Genesis) -> DecisionBody | None:
    """Read the decision beside a part: a commit of the claimed window by the node that votes last in it."""
    if not view.evidence:
        return None
    found = view.evidence[0]
    if len(view.evidence) != 1 or found.envelope.topic != "statement:decision":
        _contradiction("The evidence is not one decision.")
    body = statements.decode(found.envelope, found.message.body)
    decides = last_voter(claim.window) if claim.window else ""
    if not isinstance(body, DecisionBody) or not body.commit or body.window != claim.window:
        _contradiction("The decision is no commit of the payment's window.")
    if found.envelope.ledger != decides or not speaks(found.envelope, genesis):
        _contradiction("The decision is not by the node that decides this window.")
    return body


def _address(ledger: str, number: np.uint32) -> str:
    """Write an account's address; none for no account."""
    return address(ledger, int(number)) if number else ""


def _check_pair(payer: _Part, payee: _Part) -> None:
    """Hold the payer's and the payee's part against each other."""
    named = ("uetr", "debtor", "creditor", "asset", "creditor_asset")
    if any(getattr(payer.claim, name) != getattr(payee.claim, name) for name in named):
        _contradiction("The two parts are not of one payment.")
    amounts = {part.claim.creditor_amount for part in (payer, payee)} - {0}
    statuses = {part.claim.status for part in (payer, payee)} - {PaymentStatus.ACCEPTED}
    if len(amounts) > 1 or len(statuses) > 1:
        _contradiction("The two ledgers say different things of the payment.")


def _contradiction(sentence: str) -> NoReturn:
    raise IntegrityFailure("RECEIPT_CONTRADICTION", sentence)
