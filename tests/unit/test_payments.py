"""Payments: what a signature may move, what is refused for which reason, and what stays untouched by a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import columns
from ledger.accounts import address
from ledger.errors import Forbidden, InvariantViolation, MalformedInput, NotFound
from ledger.transfers import Flag, Result, id_halves, transfers
from settlement import drafts
from settlement.book import Group, PaymentState, group_of
from settlement.interpreter import COLUMNS_TOPIC
from settlement.legs import Leg, leg_id, parse_uetr
from settlement.places import incoming_place, peer_party
from settlement.views import PaymentStatus
from tests.settlement_fixture import World, money, uetr_of


@pytest.fixture
def world() -> World:
    """Two ledgers with money of their own."""
    return World.funded()


@pytest.fixture
def rich() -> World:
    """Two ledgers, with CNY in Hong Kong too."""
    return World.everywhere()


# --- attacks ----------------------------------------------------------------------------------------------------------


def test_key_debiting_somebody_elses_account(world: World) -> None:
    """A key that debits an account of another party is forbidden, and nothing is journaled or used up."""
    theft = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00)

    error = world.sh.refusal("ben", "/v1/payments", theft)

    assert (type(error), error.code) == (Forbidden, "NOT_OWNER")
    assert world.sh.pay("ann", theft)["result"].tolist() == [Result.OK]


def test_one_foreign_account_among_many_refuses_the_whole_message(world: World) -> None:
    """A batch with one theft in it is not journaled at all; the item is named."""
    batch = [world.payment("SH/WALLET.ben", "SH/WALLET.ann", 1 + i) for i in range(3)]
    batch[1]["debtor"] = world.address("SH/WALLET.cai")

    error = world.sh.refusal("ben", "/v1/batches", {"payments": batch})

    assert (error.code, error.fields["item"]) == ("NOT_OWNER", 1)


@pytest.mark.parametrize("account", ["SETTLE.ALPHA", "FUNDS.ALPHA", "CLEARING.ALPHA"])
def test_a_participant_cannot_sign_away_what_backs_its_customers(world: World, account: str) -> None:
    """Settlement, funds and clearing accounts move only as a consequence, even though the signer owns them."""
    payment = world.payment(f"SH/{account}", "SH/POSITION.ALPHA", 5_00)

    assert world.sh.refusal("ALPHA", "/v1/payments", payment).code == "NOT_OWNER"


def test_an_operator_cannot_debit_its_customers_wallet(world: World) -> None:
    """The operator runs the wallet; only its owner pays from it."""
    payment = world.payment("SH/WALLET.ann", "SH/POSITION.ALPHA", 5_00)

    assert world.sh.refusal("ALPHA", "/v1/payments", payment).code == "NOT_OWNER"


def test_the_institutions_own_accounts_cannot_be_debited_by_the_node(world: World) -> None:
    """The node's key speaks in the cycle; it pays from no account."""
    payment = world.payment("SH/OMNIBUS", "SH/WALLET.ann", 5_00)

    assert world.sh.refusal("NODE-SH", "/v1/payments", payment).code == "NOT_OWNER"


def test_unknown_account_as_debtor(world: World) -> None:
    """A debtor that does not exist is answered like somebody else's account, so that nothing is learnt."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00) | {"debtor": address("SH", 4_000_000_000)}

    assert world.sh.refusal("ann", "/v1/payments", payment).code == "NOT_OWNER"


def test_unknown_account_as_creditor(world: World) -> None:
    """A creditor that does not exist on this ledger refuses the payment, and its id is used up."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00)

    assert world.sh.refused("ann", payment | {"creditor": address("SH", 4_000_000_000)}) == [Result.PAYEE_NOT_FOUND]
    assert world.sh.refused("ann", payment) == [Result.ID_EXISTS]
    assert world.sh.view("ann", payment).reason is Result.PAYEE_NOT_FOUND


def test_unknown_account_across_the_border(world: World) -> None:
    """A creditor that does not exist on the other ledger is rejected there, and the payer's money is free again."""
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5_00) | {"creditor": address("HK", 4_000_000_000)}
    world.sh.pay("ann", payment)
    assert world.sh.machine.state.account(world.sh.account("WALLET.ann")).debits_pending == 5_00

    assert world.settle()

    view = world.sh.view("ann", payment)
    assert (view.status, view.reason, view.iso_status) == (PaymentStatus.REJECTED, Result.PAYEE_NOT_FOUND, "RJCT")
    assert world.sh.machine.state.account(world.sh.account("WALLET.ann")).debits_pending == 0
    world.check()


@pytest.mark.parametrize(
    "account", ["CLEARING.BETA", "FUNDS.BETA", "SETTLE.BETA", "FEES.BETA", "SUSPENSE.BETA", "NETTING"]
)
def test_nobody_pays_into_inner_accounts(world: World, account: str) -> None:
    """Only wallets, positions and the issuer are paid by others."""
    payment = world.payment("SH/WALLET.ann", f"SH/{account}", 5_00)

    assert world.sh.refused("ann", payment) == [Result.PAYEE_NOT_FOUND]


@pytest.mark.parametrize("amount", ["0", "-5", "1.5", str(2**63), 5])
def test_amount_zero_negative_fractional_or_above_2_63(world: World, amount: object) -> None:
    """Such an amount is malformed: the message is not even admitted, and its id is not used up."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00)
    before = world.sh.machine.state.money_digest()

    with pytest.raises(MalformedInput, match="AMOUNT_INVALID"):
        world.sh.pay("ann", payment | {"money": {"asset": "CNY", "amount": amount}})

    assert world.sh.machine.state.money_digest() == before
    assert world.sh.pay("ann", payment)["result"].tolist() == [Result.OK]


def test_the_largest_amount_is_refused_for_want_of_money(world: World) -> None:
    """2^63 - 1 minor units are an amount, and nobody has them; no counter wraps."""
    largest = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 2**63 - 1)
    abroad = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 2**63 - 1)

    assert world.sh.refused("ann", largest, abroad) == [Result.OVERFLOW, Result.DEBIT_LIMIT]


def test_two_assets_in_one_transfer(rich: World) -> None:
    """A payment whose accounts hold different assets is refused, whichever of them the money names."""
    cny, hkd = rich.address("HK/WALLET.dan", "CNY"), rich.address("HK/WALLET.eva", "HKD")
    plain = rich.payment("HK/WALLET.dan", "HK/WALLET.eva", 5_00)

    assert rich.hk.refused("dan", plain | {"uetr": uetr_of(1), "debtor": cny, "creditor": hkd}) == [Result.PAYEE_ASSET]
    assert rich.hk.refused("dan", plain | {"uetr": uetr_of(2), "money": money(5_00, "HKD")}) == [Result.DEBTOR_ASSET]


def test_a_refusal_of_the_debtor_does_not_look_at_the_creditor(world: World) -> None:
    """An account number far beyond any other harms nothing when the payment is refused for another reason."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00, fee=money(1, "HKD"))
    wrong = payment | {"money": money(5_00, "HKD"), "creditor": address("SH", 2**32 - 1)}

    assert world.sh.refused("ann", wrong) == [Result.DEBTOR_ASSET]


def test_two_assets_across_the_border(rich: World) -> None:
    """The payee's ledger rejects what its account cannot hold."""
    payment = rich.payment("SH/WALLET.ann", "HK/WALLET.eva", 5_00) | {"creditor": rich.address("HK/WALLET.eva", "HKD")}
    rich.sh.pay("ann", payment)

    assert rich.settle()
    assert rich.sh.view("ann", payment).reason is Result.PAYEE_ASSET


def test_paying_oneself_is_refused(world: World) -> None:
    """Both sides of a payment are never one account."""
    assert world.sh.refused("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ann", 5_00)) == [Result.SAME_ACCOUNT]


def test_spending_the_same_money_twice_in_one_batch(world: World) -> None:
    """Items are applied one by one: the second sees what the first has left, local or held."""
    whole = 100_000_00
    batch = [
        world.payment("SH/WALLET.ann", "HK/WALLET.dan", whole, uetr=uetr_of(1)),
        world.payment("SH/WALLET.ann", "SH/WALLET.cai", 1, uetr=uetr_of(2)),
        world.payment("SH/WALLET.ann", "HK/WALLET.dan", 1, uetr=uetr_of(3)),
    ]

    records = world.sh.pay("ann", *batch)

    assert records["result"][records["leg"] == Leg.PAYER].tolist() == [
        Result.OK,
        Result.DEBIT_LIMIT,
        Result.DEBIT_LIMIT,
    ]


def test_a_uetr_twice_in_one_batch(world: World) -> None:
    """The first stands, the second is a duplicate."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00)

    assert world.sh.pay("ann", payment, payment)["result"].tolist() == [Result.OK, Result.ID_EXISTS]


def test_a_uetr_again_in_another_message(world: World) -> None:
    """A UETR is used up for ever within its party, and the first payment stays what it was."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00)
    world.sh.pay("ann", payment)

    changed = payment | {"creditor": world.address("HK/WALLET.dan"), "money": money(7_00)}
    assert world.sh.refused("ann", changed) == [Result.ID_EXISTS]
    view = world.sh.view("ann", payment)
    assert (view.status, view.amount) == (PaymentStatus.SETTLED, 5_00)


def test_a_payment_again_that_would_be_refused_now(world: World) -> None:
    """That its UETR is used up comes before all that can be said against a payment, and names the first record."""
    original, refund = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00), uetr_of("refund")
    world.sh.pay("ann", original)
    back = world.payment("SH/WALLET.ben", "SH/WALLET.ann", 5_00, uetr=refund, refund_of=original["uetr"])
    first = world.sh.machine.position + 2
    assert world.sh.pay("ben", back)["result"].tolist() == [Result.OK]

    changes: list[dict[str, Any]] = [{}, {"refund_of": uetr_of("nothing")}, {"money": money(1, "HKD")}]
    for change in changes:
        records = world.sh.pay("ben", back | change)
        assert records["result"].tolist() == [Result.ID_EXISTS]
        assert records["debit_previous"].tolist() == [first]
    assert world.sh.balance("WALLET.ben") == 100_000_00


def test_a_payment_to_oneself_again(world: World) -> None:
    """A payment that is refused for its own sake is a repetition when it comes again, inside one batch too."""
    vain = world.payment("SH/WALLET.ann", "SH/WALLET.ann", 5_00)
    lost = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00) | {"creditor": address("SH", 9_999)}

    results = world.sh.refused("ann", vain, lost, lost, vain)

    assert results == [Result.SAME_ACCOUNT, Result.PAYEE_NOT_FOUND, Result.ID_EXISTS, Result.ID_EXISTS]


def taken_by_a_transfer(world: World, leg: Leg) -> dict[str, Any]:
    """Have a bank use the id of one leg of a payment for a book transfer, and then make the payment; gives it."""
    payment = world.payment("SH/POSITION.ALPHA", "SH/POSITION.BETA", 5_00)
    world.sh.post("ALPHA", "/v1/accounts", {"accounts": [{"owner": "ALPHA", "asset": "CNY"}]})
    taken = transfers(1)
    taken["id_hi"], taken["id_lo"] = id_halves(leg_id(parse_uetr(payment["uetr"]), leg))
    taken["amount"], taken["debit"] = 1, world.sh.account("POSITION.ALPHA")
    taken["credit"] = world.sh.machine.state.account_count
    world.sh.post("ALPHA", COLUMNS_TOPIC, columns.encode(taken))
    assert world.sh.refused("ALPHA", payment) == [Result.ID_EXISTS]
    return payment


@pytest.mark.parametrize("leg", [Leg.SETTLE, Leg.PAYEE])
def test_a_payment_refused_because_a_leg_of_it_was_taken_can_be_read(world: World, leg: Leg) -> None:
    """A payment whose own name was free, and one of whose further ids was not, is read as what it is: refused."""
    payment = taken_by_a_transfer(world, leg)

    view = world.sh.view("ALPHA", payment)
    assert (view.status, view.reason, view.amount) == (PaymentStatus.REFUSED, Result.ID_EXISTS, 5_00)
    assert world.sh.refused("ALPHA", payment) == [Result.ID_EXISTS]
    assert world.sh.view("ALPHA", payment) == view


def test_a_uetr_taken_by_a_transfer_is_no_payment(world: World) -> None:
    """A UETR whose first use was no payment names none: there is nothing to read under it."""
    payment = taken_by_a_transfer(world, Leg.PAYER)

    with pytest.raises(NotFound, match="PAYMENT_NOT_FOUND"):
        world.sh.view("ALPHA", payment)


def test_a_uetr_of_somebody_else_is_free(world: World) -> None:
    """Ids are scoped to the signing party: nobody can block another's."""
    world.sh.pay("ben", world.payment("SH/WALLET.ben", "SH/WALLET.ann", 1, uetr=uetr_of("shared")))

    records = world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", 2, uetr=uetr_of("shared")))

    assert records["result"].tolist() == [Result.OK]


def test_a_shared_uetr_across_the_border_is_accepted_once(world: World) -> None:
    """On the payee's ledger ids are scoped to the other node: the later of two payments of one UETR is rejected."""
    first = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 1, uetr=uetr_of("shared"))
    second = world.payment("SH/WALLET.ben", "HK/WALLET.dan", 2, uetr=uetr_of("shared"))
    world.sh.pay("ann", first)
    world.sh.pay("ben", second)

    assert world.settle()

    assert world.sh.view("ann", first).status is PaymentStatus.SETTLED
    assert world.sh.view("ben", second).reason is Result.ID_EXISTS
    assert world.hk.balance("WALLET.dan") == 1


# --- inside one ledger ------------------------------------------------------------------------------------------------


def test_a_refused_chain_moves_nothing(world: World) -> None:
    """When the payer lacks money, no leg between the participants is posted, and the reason is the payer's."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 100_000_01)

    assert world.sh.refused("ann", payment) == [Result.DEBIT_LIMIT]
    assert world.sh.view("ann", payment).iso_reason == "AM04"


def test_a_fee_stands_and_falls_with_its_payment(world: World) -> None:
    """A fee that the payer cannot bear refuses the payment; one that it can goes to its participant."""
    beyond = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 100_000_00, fee=money(1))
    within = world.payment("SH/WALLET.ann", "SH/WALLET.cai", 99_999_99, fee=money(1))

    assert world.sh.refused("ann", beyond) == [Result.DEBIT_LIMIT]
    assert set(world.sh.pay("ann", within)["result"].tolist()) == {Result.OK}
    assert (world.sh.balance("WALLET.ann"), world.sh.balance("FEES.ALPHA")) == (0, 1)


def test_earned_fees_can_be_taken_out(world: World) -> None:
    """A participant moves its fees to its position."""
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5_00, fee=money(30)))

    world.sh.pay("ALPHA", world.payment("SH/FEES.ALPHA", "SH/POSITION.ALPHA", 30))

    assert world.sh.balance("FEES.ALPHA") == 0


def test_the_issuer_takes_no_fee(world: World) -> None:
    """An account whose book has no fees account refuses a fee instead of losing it."""
    payment = world.payment("SH/ISSUE", "SH/POSITION.ALPHA", 5_00, fee=money(1))

    assert world.sh.refused("PBOC", payment) == [Result.FEE_ACCOUNT]


def test_the_issuer_pays_a_participant_like_an_issuance(world: World) -> None:
    """A payment from ISSUE has two legs: to the settlement account, and on the participant's book."""
    issued = world.sh.balance("ISSUE")

    records = world.sh.pay("PBOC", world.payment("SH/ISSUE", "SH/POSITION.ALPHA", 5_00))

    assert records["leg"].tolist() == [Leg.PAYER, Leg.PAYEE]
    assert world.sh.balance("ISSUE") == issued + 5_00
    world.check()


def test_suspense_takes_from_its_own_book_alone(world: World) -> None:
    """A wallet may be emptied into its own participant's suspense account, not into another's."""
    own = world.payment("SH/WALLET.ann", "SH/SUSPENSE.ALPHA", 5_00)
    other = world.payment("SH/WALLET.ann", "SH/SUSPENSE.BETA", 5_00)

    assert world.sh.pay("ann", own)["result"].tolist() == [Result.OK]
    assert world.sh.refused("ann", other) == [Result.PAYEE_NOT_FOUND]


def test_a_closed_payee_is_refused_on_both_ledgers(world: World) -> None:
    """A closed account takes nothing, and the reason says so."""
    world.sh.pay("cai", world.payment("SH/WALLET.cai", "SH/WALLET.ann", 100_000_00))
    for node, name in ((world.sh, "WALLET.cai"), (world.hk, "WALLET.eva")):
        node.machine.state.close_account(node.account(name))
    abroad = world.payment("SH/WALLET.ann", "HK/WALLET.eva", 5_00)

    assert world.sh.refused("ann", world.payment("SH/WALLET.ann", "SH/WALLET.cai", 5_00)) == [Result.PAYEE_CLOSED]
    world.sh.pay("ann", abroad)
    world.agree()
    assert world.sh.view("ann", abroad).reason is Result.PAYEE_CLOSED


@pytest.mark.parametrize("compiled", [True, False])
def test_a_mixed_batch_is_applied_in_its_order(compiled: bool) -> None:
    """Each kind of payment among others gives exactly the legs it gives alone, item by item."""
    world = World.everywhere()
    world.hk.machine.compiled = compiled
    quote = world.quote(sell="CNY", maximum=1_000_00, buy="HKD", rate="0.92220000")
    batch = [
        world.payment("HK/WALLET.dan", "SH/WALLET.ann", 1_00, uetr=uetr_of(0)),
        world.payment("HK/WALLET.dan", "HK/WALLET.eva", 2_00, uetr=uetr_of(1)),
        world.payment("HK/WALLET.dan", "HK/WALLET.eva", 60_000_00, uetr=uetr_of(2)),
        world.payment("HK/WALLET.dan", "SH/WALLET.ann", 60_000_00, uetr=uetr_of(3)),
        world.payment(
            "HK/WALLET.dan", "SH/WALLET.ann", 3_00, "HKD", creditor_asset="CNY", quote=quote, uetr=uetr_of(4)
        ),
        world.payment("HK/WALLET.dan", "HK/POSITION.GAMMA", 4_00, fee=money(1), uetr=uetr_of(5)),
        world.payment("HK/WALLET.dan", "SH/WALLET.cai", 5_00, uetr=uetr_of(6)),
        world.payment("HK/WALLET.dan", "HK/WALLET.eva", 6_00, uetr=uetr_of(0)),
    ]

    records = world.hk.pay("dan", *batch)

    assert records["item"].tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4, 4, 5, 5, 6, 7, 7, 7]
    failed = {2: Result.DEBIT_LIMIT, 3: Result.DEBIT_LIMIT, 7: Result.ID_EXISTS}
    for item in range(len(batch)):
        part = records[records["item"] == item]
        if item in failed:
            assert drafts.reason_of(part["leg"], part["result"]) is failed[item]
        else:
            assert set(part["result"].tolist()) == {Result.OK}
        assert ((part["flags"] & Flag.LINKED) != 0).tolist() == [True] * (len(part) - 1) + [False]
    table = world.hk.book.open_window.outgoing
    assert table.states.tolist() == [PaymentState.PENDING, PaymentState.REFUSED, *[PaymentState.PENDING] * 2]
    assert table.reasons.tolist() == [0, Result.DEBIT_LIMIT, 0, 0]
    held = records[records["group"] != 0]
    assert held["member"].tolist() == [0, 1, 2, 2, 2, 2, 3]
    assert set(held["group"].tolist()) == {group_of(world.hk.book.current, Group.OUTGOING)}
    assert world.settle()
    world.check()


# --- inside -----------------------------------------------------------------------------------------------------------


def test_a_chain_without_a_reason_is_our_mistake() -> None:
    """A refused payment always has a leg with a reason of its own."""
    with pytest.raises(InvariantViolation):
        drafts.reason_of([Leg.PAYER, Leg.SETTLE], [Result.LINKED_FAILED, Result.LINKED_FAILED])


@pytest.mark.parametrize(
    ("leg", "result", "reason"),
    [
        (Leg.PAYER, Result.DEBIT_LIMIT, Result.DEBIT_LIMIT),
        (Leg.PAYER, Result.CREDIT_LIMIT, Result.PARTICIPANT_LIMIT),
        (Leg.SETTLE, Result.DEBIT_LIMIT, Result.PARTICIPANT_LIMIT),
        (Leg.PROVIDER_PAYS, Result.DEBIT_LIMIT, Result.PROVIDER_LIMIT),
        (Leg.PROVIDER_PAYS, Result.CREDIT_LIMIT, Result.PROVIDER_LIMIT),
        (Leg.SETTLE_BOUGHT, Result.DEBIT_LIMIT, Result.PROVIDER_LIMIT),
        (Leg.QUOTE, Result.DEBIT_LIMIT, Result.QUOTE_EXHAUSTED),
        (Leg.FEE, Result.DEBIT_LIMIT, Result.DEBIT_LIMIT),
        (Leg.QUOTE, Result.OVERFLOW, Result.OVERFLOW),
    ],
)
def test_a_limit_is_named_by_whose_it_is(leg: Leg, result: Result, reason: Result) -> None:
    """Only the payer's own lack of money reads as such."""
    assert drafts.reason_of([Leg.PAYEE, leg], [Result.LINKED_FAILED, result]) is reason


def test_the_peers_party_scopes_incoming_ids(world: World) -> None:
    """Incoming legs are named within the party of the other ledger's node."""
    for node, peer in ((world.sh, "NODE-HK"), (world.hk, "NODE-SH")):
        assert peer_party(node.machine) == node.machine.directory.by_code(peer).number
    assert incoming_place(world.hk.book, world.hk.machine.state, peer_party(world.hk.machine), 1) is None
