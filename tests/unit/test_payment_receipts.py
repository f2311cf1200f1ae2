"""What a payment's receipt says, how much of it is proven, and that a node cannot claim what its records deny."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from ledger import messages
from ledger.errors import IntegrityFailure, NotFound
from ledger.receipts import join
from ledger.transfers import Result
from settlement import payment_receipts, statements
from settlement.legs import Leg
from settlement.payment_receipts import Claim, verify
from settlement.views import PaymentStatus
from tests.receipt_fixture import PAIR, Journals, journals
from tests.settlement_fixture import World, genesis_of, key_of
from tests.unit.test_receipts import contents_of, lie, signed

Case = tuple[str, str, str, PaymentStatus, bool, int | None]
CASES: list[Case] = [
    ("SH", "ann", "inside", PaymentStatus.SETTLED, True, None),
    ("SH", "ann", "between", PaymentStatus.SETTLED, True, None),
    ("SH", "ann", "refused", PaymentStatus.REFUSED, True, None),
    ("SH", "ann", "redeemed", PaymentStatus.SETTLED, True, None),
    ("HK", "dan", "converted", PaymentStatus.SETTLED, True, None),
    ("SH", "ann", "waiting", PaymentStatus.ACCEPTED, True, 5),
    ("SH", "ann", "single", PaymentStatus.SETTLED, True, 2),
    ("SH", "cai", "batch", PaymentStatus.SETTLED, True, 2),
    ("SH", "ben", "exchange", PaymentStatus.SETTLED, True, 2),
    ("HK", "dan", "back", PaymentStatus.SETTLED, True, 2),
    ("HK", "dan", "single", PaymentStatus.SETTLED, True, 2),
    ("HK", "eva", "exchange", PaymentStatus.SETTLED, True, 2),
    ("SH", "ann", "settled", PaymentStatus.SETTLED, False, 3),
    ("HK", "dan", "settled", PaymentStatus.SETTLED, False, 3),
    ("SH", "ann", "carried", PaymentStatus.SETTLED, False, 4),
    ("HK", "eva", "carried", PaymentStatus.SETTLED, True, 4),
    ("SH", "ann", "cancelled", PaymentStatus.CANCELLED, False, 3),
    ("SH", "ben", "rejected", PaymentStatus.REJECTED, False, 3),
]


@pytest.fixture(scope="module")
def made() -> Journals:
    """Give the journals that the receipts are of."""
    return journals()


def claimed(receipt: bytes, **changes: Any) -> bytes:
    """Change what the node claims, and have it sign that."""
    claim = msgspec.msgpack.decode(contents_of(receipt)[0].claim, type=Claim)
    return lie(receipt, claim=msgspec.msgpack.encode(msgspec.structs.replace(claim, **changes)))


def contradicted(receipt: bytes) -> str:
    """Verify a receipt whose proofs hold and whose claim does not; gives the sentence."""
    with pytest.raises(IntegrityFailure) as caught:
        verify(receipt, PAIR["SH"])
    assert caught.value.code == "RECEIPT_CONTRADICTION"
    return caught.value.sentence


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[2]} seen by {case[1]}")
def test_each_kind_of_payment(made: Journals, case: Case) -> None:
    """A receipt gives the payment's status and window, whether that is proven, and its parties and amounts."""
    ledger, who, name, status, proven, window = case
    found = verify(made.receipt(ledger, who, name), PAIR["SH"])
    payment = made.payments[name]
    assert (found.uetr, found.status, found.is_status_proven, found.window) == (payment["uetr"], status, proven, window)
    assert (found.debtor, found.creditor) == (payment["debtor"], payment["creditor"])
    assert (found.asset, found.creditor_asset) == (
        payment["money"]["asset"],
        payment.get("creditor_asset", payment["money"]["asset"]),
    )
    is_payer = ledger == payment["debtor"][:2]
    assert found.amount == (int(payment["money"]["amount"]) if is_payer else None)
    assert found.is_body_shown is (is_payer and name != "batch")
    assert (found.settled_ns > 0) is (status is PaymentStatus.SETTLED and window is not None)


def test_an_exchange_says_what_the_payee_gets(made: Journals) -> None:
    """A payment with FX shows what was paid on one ledger, what was received on the other, and both together."""
    parts = made.receipt("SH", "ben", "exchange"), made.receipt("HK", "eva", "exchange")
    assert verify(parts[1], PAIR["HK"]).creditor_amount == 108_43
    found = verify(join(*parts), PAIR["HK"])
    assert (found.asset, found.amount, found.creditor_asset, found.creditor_amount) == ("CNY", 100_00, "HKD", 108_43)


def test_no_provider_is_shown(made: Journals) -> None:
    """Of an exchange only the payer's and the payee's legs are shown."""
    for ledger, who in (("SH", "ben"), ("HK", "eva")):
        (part,) = verify(made.receipt(ledger, who, "exchange"), PAIR["SH"]).receipt.parts
        assert set(part.records["leg"].tolist()) <= {Leg.PAYER, Leg.PAYEE, Leg.FEE}


def test_a_fee_is_shown(made: Journals) -> None:
    """A payment between two participants shows the payer's, the payee's and the fee's leg."""
    (part,) = verify(made.receipt("SH", "ann", "between"), PAIR["SH"]).receipt.parts
    assert part.records["leg"].tolist() == [Leg.PAYER, Leg.PAYEE, Leg.FEE]
    assert part.records["amount"].tolist() == [12_00, 12_00, 5]


def test_a_payment_to_the_issuer(made: Journals) -> None:
    """A payment that ends in the issuer's account, which has no funds beside it, shows the leg that reaches it."""
    (part,) = verify(made.receipt("SH", "ann", "redeemed"), PAIR["SH"]).receipt.parts
    assert part.records["leg"].tolist() == [Leg.PAYER, Leg.SETTLE]
    assert int(part.records["credit"][1]) == made.world.sh.account("ISSUE")


def test_why_a_payment_was_refused(made: Journals) -> None:
    """A refused payment's receipt names the reason."""
    assert verify(made.receipt("SH", "ann", "refused"), PAIR["SH"]).reason is Result.DEBIT_LIMIT
    assert verify(made.receipt("SH", "ben", "rejected"), PAIR["SH"]).reason is Result.PAYEE_NOT_FOUND


def test_both_ledgers_prove_what_one_states(made: Journals) -> None:
    """In a window with rejections, the payee's part proves what the payer's alone can only state."""
    payer, payee = made.receipt("SH", "ann", "carried"), made.receipt("HK", "eva", "carried")
    assert not verify(payer, PAIR["SH"]).is_status_proven
    found = verify(join(payer, payee), PAIR["SH"])
    assert found.is_status_proven
    assert (found.amount, found.is_body_shown) == (6_00, True)


def test_the_payee_inside_a_ledger(made: Journals) -> None:
    """The payee of a payment inside one ledger gets the same receipt as its payer."""
    receipt = made.receipt("SH", "ben", "inside", payer="ann")
    assert verify(receipt, PAIR["SH"]).amount == 11_00
    assert receipt == made.receipt("SH", "ann", "inside")


def test_a_rejected_payment_on_its_payees_ledger(made: Journals) -> None:
    """The payee's ledger proves by its own record that it has rejected a payment."""
    node, payment = made.world.hk, made.payments["rejected"]
    account = node.machine.state.account(node.account("SETTLE.GAMMA"))
    owner = node.machine.directory.party(account.owner).code
    found = verify(made.receipt("HK", owner, "rejected"), PAIR["HK"])
    assert (found.uetr, found.status, found.is_status_proven) == (payment["uetr"], PaymentStatus.REJECTED, True)


def test_a_payee_has_no_proof_that_a_payment_still_waits() -> None:
    """The payee's ledger states that a carried payment waits, and later that it was cancelled; it proves neither."""
    world = World.everywhere()
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 1_00)
    world.sh.pay("ann", payment)
    assert world.settle([payment["uetr"]])
    waits = verify(Journals.of(world, {"carried": payment}).receipt("HK", "dan", "carried"), PAIR["HK"])
    assert (waits.status, waits.is_status_proven) == (PaymentStatus.ACCEPTED, False)

    world.sh.post("ann", "/v1/cancellations", {"uetr": payment["uetr"]})
    assert world.settle()
    later = Journals.of(world, {"carried": payment})
    payee = later.receipt("HK", "dan", "carried")
    ended = verify(payee, PAIR["HK"])
    assert (ended.status, ended.is_status_proven, ended.window) == (PaymentStatus.CANCELLED, False, 2)
    both = verify(join(later.receipt("SH", "ann", "carried"), payee), PAIR["SH"])
    assert (both.status, both.is_status_proven) == (PaymentStatus.CANCELLED, False)


def test_a_later_status_wins(made: Journals) -> None:
    """Joined, a receipt made before the decision and one made after it say that the payment is settled."""
    before = claimed_before(made)
    found = verify(join(before, made.receipt("HK", "dan", "single")), PAIR["SH"])
    assert (found.status, found.is_status_proven, found.amount) == (PaymentStatus.SETTLED, True, 40_00)


def claimed_before(made: Journals) -> bytes:
    """Give the single payment's receipt as it was before its window was decided."""
    plan = made.plan("SH", "ann", "single")
    claim = msgspec.structs.replace(plan.claim, status=PaymentStatus.ACCEPTED, settled_ns=0)
    early = payment_receipts.Plan(plan.position, None, claim)
    return payment_receipts.make(made.sources["SH"], early, made.note("SH"), made.machines["SH"])


def unproven(made: Journals, plan: payment_receipts.Plan) -> IntegrityFailure:
    """Ask Shanghai for a receipt that its own check refuses; gives what the check said."""
    with pytest.raises(NotFound, match="RECEIPT_UNPROVEN") as caught:
        payment_receipts.make(made.sources["SH"], plan, made.note("SH"), made.machines["SH"])
    assert isinstance(caught.value.__cause__, IntegrityFailure)
    return caught.value.__cause__


def test_a_receipt_that_does_not_verify_stops_nobody(made: Journals) -> None:
    """Where what is journaled does not prove what a receipt needs, its reader is told so, and nothing has failed."""
    plan = made.plan("SH", "ann", "single")
    assert unproven(made, payment_receipts.Plan(plan.position, None, plan.claim)).code == "RECEIPT_CONTRADICTION"

    request = plan.position - 1
    assert unproven(made, payment_receipts.Plan(plan.position, request, plan.claim)).code == "RECEIPT_INVALID"


def test_a_record_that_is_not_in_the_signed_tree_is_no_missing_receipt(
    made: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored record that was changed together with its checksum is a failure of the journal's integrity."""
    plan, reader = made.plan("SH", "ann", "single"), made.sources["SH"].reader
    changed = reader.record(plan.position).copy()
    changed["amount"] += 1
    monkeypatch.setattr(reader, "record", lambda _: changed)
    with pytest.raises(IntegrityFailure, match="leads to another root"):
        payment_receipts.make(made.sources["SH"], plan, made.note("SH"), made.machines["SH"])


def test_a_tree_that_is_not_the_signed_one_is_no_missing_receipt(
    made: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept root that was changed makes proofs which lead elsewhere, and the node must not go on with it."""
    plan, note = made.plan("SH", "ann", "single"), made.note("SH")
    monkeypatch.setattr(made.sources["SH"].tiles, "_node", lambda *_: bytes(32))
    with pytest.raises(IntegrityFailure, match="leads to other roots"):
        payment_receipts.make(made.sources["SH"], plan, note, made.machines["SH"])


def test_a_damaged_journal_is_no_missing_receipt(made: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read from the journal is a failure of its integrity, for which the node stops."""

    def damaged(*_: int) -> Any:
        raise IntegrityFailure("BLOCK_HASH", "A block was changed.")

    monkeypatch.setattr(made.sources["SH"].tiles, "inclusion", damaged)
    with pytest.raises(IntegrityFailure, match="BLOCK_HASH"):
        made.receipt("SH", "ann", "single")


def test_what_is_not_there_has_no_receipt(made: Journals) -> None:
    """A payment that no incoming list has brought has no receipt on the payee's ledger."""
    node = made.world.hk
    view = node.view("dan", made.payments["single"])
    other = payment_receipts.PaymentView(**{name: getattr(view, name) for name in view.__slots__} | {"uetr": 5})
    with pytest.raises(NotFound, match="PAYMENT_NOT_FOUND"):
        payment_receipts.plan_receipt(node.machine, node.book, other)


# --- what a node cannot claim -----------------------------------------------------------------------------------------

CLAIMS: list[tuple[str, dict[str, Any]]] = [
    ("single", {"uetr": bytes(16)}),
    ("single", {"status": PaymentStatus.ACCEPTED}),
    ("single", {"status": PaymentStatus.REFUSED}),
    ("single", {"status": PaymentStatus.CANCELLED}),
    ("single", {"window": 3}),
    ("single", {"window": 0}),
    ("single", {"debtor": "SH530000000012"}),
    ("single", {"creditor": "HK780000000031"}),
    ("single", {"asset": "HKD"}),
    ("single", {"creditor_asset": "HKD"}),
    ("refused", {"status": PaymentStatus.SETTLED}),
    ("refused", {"status": PaymentStatus.ACCEPTED}),
    ("refused", {"reason": Result.OK}),
    ("inside", {"status": PaymentStatus.ACCEPTED}),
    ("inside", {"status": PaymentStatus.REFUSED, "reason": Result.DEBIT_LIMIT}),
    ("inside", {"window": 1}),
    ("inside", {"creditor_amount": 1}),
    ("waiting", {"status": PaymentStatus.SETTLED}),
    ("waiting", {"status": PaymentStatus.REFUSED}),
    ("waiting", {"window": 4}),
]


@pytest.mark.parametrize(("name", "changes"), CLAIMS, ids=str)
def test_a_claim_that_its_records_deny(made: Journals, name: str, changes: dict[str, Any]) -> None:
    """A node that claims another status, window, party or amount than its own records show is contradicted."""
    contradicted(claimed(made.receipt("SH", "ann", name), **changes))


def test_a_claim_in_another_form(made: Journals) -> None:
    """A claim that cannot be read, or is not in its one spelling, is refused."""
    receipt = made.receipt("SH", "ann", "single")
    claim = contents_of(receipt)[0].claim
    assert claim[:1] == b"\x9a"
    for other in (b"", b"\xc0", claim[:-1], b"\xdc\x00\x0a" + claim[1:]):
        contradicted(lie(receipt, claim=other))


def test_a_settled_claim_needs_its_decision(made: Journals) -> None:
    """A pending payment without a decision, or a decided one beside a decision, is contradicted."""
    single, inside = made.receipt("SH", "ann", "single"), made.receipt("SH", "ann", "inside")
    before = claimed_before(made)
    contradicted(claimed(before, status=PaymentStatus.SETTLED))
    contradicted(claimed(single, status=PaymentStatus.REJECTED))
    wanted_decision = made.plan("SH", "ann", "single").decision
    plan = made.plan("SH", "ann", "inside")
    other = payment_receipts.Plan(plan.position, wanted_decision, plan.claim)
    assert unproven(made, other).code == "RECEIPT_CONTRADICTION"
    assert verify(inside, PAIR["SH"]).status is PaymentStatus.SETTLED


def statement_position(made: Journals, key: str, window: int) -> int:
    """Find where a statement is journaled in Shanghai."""
    wanted = messages.encode(made.world.sh.book.windows[window].statements[key])
    reader = made.sources["SH"].reader
    for position in range(made.machines["SH"].position):
        try:
            entry = reader.entry(position)
        except NotFound:
            continue
        if messages.encode(entry.message) == wanted:
            return position
    raise AssertionError(key)


@pytest.mark.parametrize(("key", "window"), [("vote/HK/1", 2), ("decision/SH/1", 3), ("close", 2)])
def test_evidence_that_decides_nothing(made: Journals, key: str, window: int) -> None:
    """Another statement than the commit of the claimed window is no evidence."""
    plan = made.plan("SH", "ann", "single")
    other = payment_receipts.Plan(plan.position, statement_position(made, key, window), plan.claim)
    assert unproven(made, other).code == "RECEIPT_CONTRADICTION"


def test_a_decision_by_the_wrong_node(made: Journals) -> None:
    """Under a genesis in which the deciding node has another key, the decision is refused."""
    document = genesis_of("SH")
    other = messages.public_bytes(key_of("somebody else")).hex()
    parties = tuple(
        msgspec.structs.replace(party, public_key=other) if party.code == "NODE-HK" else party
        for party in document.parties
    )
    receipt = made.receipt("SH", "ann", "single", cosigned=False)
    assert statements.last_voter(2) == "HK"
    with pytest.raises(IntegrityFailure, match="RECEIPT_"):
        verify(receipt, msgspec.structs.replace(document, parties=parties))


def test_parts_of_two_payments(made: Journals) -> None:
    """Two parts that are of different payments, or of which neither is the payee's, are contradicted."""
    contradicted(join(made.receipt("SH", "ann", "single"), made.receipt("HK", "eva", "exchange")))
    contradicted(join(made.receipt("SH", "ann", "single"), made.receipt("HK", "dan", "back")))


def test_parts_that_disagree(made: Journals) -> None:
    """Two parts whose statuses or amounts exclude each other are contradicted."""
    waiting, payee = made.receipt("SH", "ann", "carried"), made.receipt("HK", "eva", "carried")
    claim = msgspec.msgpack.decode(contents_of(payee)[0].claim, type=Claim)
    for changes in ({"asset": "HKD"}, {"debtor": "SH530000000012"}):
        other = msgspec.structs.replace(claim, **changes)
        content = msgspec.structs.replace(contents_of(payee)[0], claim=msgspec.msgpack.encode(other))
        contradicted(join(waiting, signed(content, ledger="HK")))
    rejected = verify(made.receipt("SH", "ben", "rejected"), PAIR["SH"])
    assert rejected.status is PaymentStatus.REJECTED


def test_records_that_are_none_of_the_payment(made: Journals) -> None:
    """A receipt of something that is no payment, an issuance for one, is contradicted."""
    issued = next(
        position
        for position in range(made.machines["SH"].position)
        if is_record(made, position) and made.sources["SH"].reader.record(position)["leg"] == Leg.ISSUE
    )
    claim = made.plan("SH", "ann", "inside").claim
    assert unproven(made, payment_receipts.Plan(issued, None, claim)).code == "RECEIPT_MALFORMED"


def is_record(made: Journals, position: int) -> bool:
    """Tell whether a record stands at a position in Shanghai."""
    try:
        made.sources["SH"].reader.record(position)
    except NotFound:
        return False
    return True


def test_a_leg_left_out(made: Journals) -> None:
    """A receipt whose first record is not the payer's leg is contradicted."""
    plan = made.plan("SH", "ann", "between")
    reader = made.sources["SH"].reader
    fee = next(
        plan.position + at for at in range(6) if np.atleast_1d(reader.record(plan.position + at))["leg"][0] == Leg.FEE
    )
    assert unproven(made, payment_receipts.Plan(fee, None, plan.claim)).code == "RECEIPT_CONTRADICTION"


# --- what decides whether it is proven --------------------------------------------------------------------------------


def test_a_full_list_proves_nothing_for_the_payer(made: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a list had no more room, the payer's ledger alone does not prove that this payment was in it."""
    receipt = made.receipt("SH", "ann", "single")
    assert verify(receipt, PAIR["SH"]).is_status_proven
    monkeypatch.setattr(payment_receipts.statements, "LIST_COUNT_MAX", 4)
    assert not verify(receipt, PAIR["SH"]).is_status_proven


def test_a_receipt_is_small(made: Journals) -> None:
    """Every receipt of a single payment here is below 3 KiB, and one of both ledgers below 6."""
    sizes = [len(made.receipt(ledger, who, name)) for ledger, who, name, *_ in CASES]
    assert max(sizes) < 3 * 1024
    both = join(made.receipt("SH", "ann", "single"), made.receipt("HK", "dan", "single"))
    assert len(both) < 6 * 1024
