"""Quotes: who may publish them, what they convert, and that nobody gets more out of them than was signed."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Conflict, Forbidden, NotFound, Rejected
from ledger.transfers import Result
from settlement.book import PAYMENT, Book
from settlement.fx import assess, convert, convert_columns
from settlement.views import PaymentStatus, quote_view
from tests.settlement_fixture import CREATED_NS, SECOND, World, genesis_of, money, party, uetr_of

EXPIRES = "2025-06-19T00:00:00Z"
EXPIRES_NS = int(dt.datetime.fromisoformat(EXPIRES).timestamp()) * SECOND


@pytest.fixture
def world() -> World:
    """Two ledgers with CNY on both and HKD in Hong Kong."""
    return World.everywhere()


def sells(world: World, asset: str, maximum: int, rate: str, name: str = "quote") -> str:
    """Have FX sell an asset for the other one."""
    other = {"CNY": "HKD", "HKD": "CNY"}[asset]
    return world.quote(sell=asset, maximum=maximum, buy=other, rate=rate, name=name, expires=EXPIRES)


def inside(world: World, quote: str, amount: int, name: object) -> dict[str, Any]:
    """Pay HKD as CNY inside Hong Kong."""
    return world.payment(
        "HK/WALLET.dan", "HK/WALLET.eva", amount, "HKD", creditor_asset="CNY", quote=quote, uetr=uetr_of(name)
    )


def outward(world: World, quote: str, amount: int, name: object) -> dict[str, Any]:
    """Pay HKD as CNY from Hong Kong to Shanghai."""
    return world.payment(
        "HK/WALLET.dan", "SH/WALLET.ann", amount, "HKD", creditor_asset="CNY", quote=quote, uetr=uetr_of(name)
    )


def inward(world: World, quote: str, amount: int, name: object) -> dict[str, Any]:
    """Pay CNY as HKD from Shanghai to Hong Kong."""
    return world.payment(
        "SH/WALLET.ann", "HK/WALLET.eva", amount, "CNY", creditor_asset="HKD", quote=quote, uetr=uetr_of(name)
    )


def arrives(world: World, payment: dict[str, Any]) -> Result:
    """Send a payment from Shanghai, settle, and give the reason of its rejection or OK."""
    world.sh.pay("ann", payment)
    if not world.settle():
        raise ValueError("the window did not settle")
    world.check()
    return world.sh.view("ann", payment).reason


# --- arithmetic -------------------------------------------------------------------------------------------------------

AMOUNTS = st.integers(min_value=1, max_value=2**63 - 1)
RATES = st.integers(min_value=1, max_value=10**18 - 1)


@given(AMOUNTS, RATES)
def test_the_payee_receives_what_the_rate_gives_rounded_down(amount: int, rate_e8: int) -> None:
    """Never more than the exact product, and less by under one minor unit."""
    exact = Fraction(amount) * Fraction(rate_e8, 10**8)

    assert 0 <= exact - convert(amount, rate_e8) < 1


@given(AMOUNTS, AMOUNTS, RATES)
def test_cutting_a_payment_up_never_gains(one: int, other: int, rate_e8: int) -> None:
    """Two payments receive together at most what their sum would."""
    assert convert(one, rate_e8) + convert(other, rate_e8) <= convert(one + other, rate_e8)


@given(st.lists(st.tuples(AMOUNTS, RATES), min_size=1, max_size=20))
def test_columns_convert_like_single_amounts(pairs: list[tuple[int, int]]) -> None:
    """Conversion in columns gives the exact amount, or -1 where no amount is large enough."""
    amounts, rates = (np.array(column, np.int64) for column in zip(*pairs, strict=True))

    expected = [exact if (exact := convert(amount, rate)) < 2**63 else -1 for amount, rate in pairs]
    assert convert_columns(amounts, rates).tolist() == expected


@pytest.mark.parametrize(
    ("amount", "rate_e8"),
    [
        (2**63 - 1, 10**8),
        (2**63 - 1, 10**8 + 1),
        (10**8, (2**63 - 1) // 10**8),
        (10**8 - 1, (2**63 - 1) // 10**8),
        (10**8 - 1, (2**63 - 1) // 10**8 + 1),
        (1, 10**18 - 1),
        (2**63 - 1, 1),
    ],
)
def test_columns_convert_at_the_edges(amount: int, rate_e8: int) -> None:
    """Where 64 bits end, the exact way takes over."""
    exact = convert(amount, rate_e8)

    found = convert_columns(np.array([amount]), np.array([rate_e8]))
    assert found.tolist() == [exact if exact < 2**63 else -1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Result.OK),
        ({"asset": 2}, Result.QUOTE_MISMATCH),
        ({"creditor_asset": 1}, Result.QUOTE_MISMATCH),
        ({"asset": 2, "creditor_asset": 1}, Result.QUOTE_MISMATCH),
        ({"timestamp_ns": 999}, Result.OK),
        ({"timestamp_ns": 1_000}, Result.QUOTE_EXPIRED),
        ({"timestamp_ns": 1_000, "asset": 2}, Result.QUOTE_MISMATCH),
        ({"timestamp_ns": 1_000, "amount": 1}, Result.QUOTE_EXPIRED),
        ({"amount": 1}, Result.CONVERTED_TO_ZERO),
        ({"amount": 2}, Result.OK),
        ({"amount": 100}, Result.OK),
        ({"amount": 102}, Result.QUOTE_EXHAUSTED),
        ({"amount": 2**63 - 1}, Result.QUOTE_EXHAUSTED),
    ],
)
def test_a_quote_is_checked_in_order(changes: dict[str, int], expected: Result) -> None:
    """First the pair, then the time, then whether anything is received, then whether it can ever be enough."""
    book = Book(genesis_of("HK"))
    terms = {"rate_e8": 50_000_000, "maximum": 50, "expires_ns": 1_000, "buy": 1, "sell": 2}
    others = ("bought_clearing", "bought_position", "sold_position", "sold_clearing", "account", "source")
    book.quote_terms.append(**{name: [value] for name, value in terms.items()}, **{name: [9] for name in others})
    asked = {"asset": 1, "creditor_asset": 2, "amount": 50, "timestamp_ns": 0} | changes
    rows = np.zeros(1, PAYMENT)
    for name in ("asset", "creditor_asset", "amount"):
        rows[name] = asked[name]

    reasons, received = assess(book, rows, np.zeros(1, np.intp), timestamp_ns=asked["timestamp_ns"])

    assert reasons.tolist() == [expected]
    assert expected is not Result.OK or received.tolist() == [convert(asked["amount"], 50_000_000)]


# --- attacks ----------------------------------------------------------------------------------------------------------


def test_quote_beyond_its_total(world: World) -> None:
    """Payments use a quote up to its total, to the last minor unit; the next one is refused as the quote's end."""
    quote = sells(world, "CNY", 10_00, "0.50000000")

    assert set(world.hk.pay("dan", inside(world, quote, 19_98, 1))["result"].tolist()) == {Result.OK}
    assert world.hk.refused("dan", inside(world, quote, 4, 2)) == [Result.QUOTE_EXHAUSTED]
    assert set(world.hk.pay("dan", inside(world, quote, 2, 3))["result"].tolist()) == {Result.OK}
    assert world.hk.refused("dan", inside(world, quote, 2, 4)) == [Result.QUOTE_EXHAUSTED]
    assert quote_view(world.hk.machine, world.hk.book, int(quote.replace("-", ""), 16)).left == 0


def test_quote_beyond_its_total_in_one_payment(world: World) -> None:
    """A payment that needs more than the whole quote is refused before it is posted."""
    quote = sells(world, "CNY", 10_00, "0.50000000")

    assert world.hk.refused("dan", inside(world, quote, 20_02, 1), outward(world, quote, 20_02, 2)) == [
        Result.QUOTE_EXHAUSTED,
        Result.QUOTE_EXHAUSTED,
    ]


def test_quote_beyond_its_total_across_the_border(world: World) -> None:
    """What waits in a window counts as used, from either side."""
    quote = sells(world, "CNY", 10_00, "0.50000000")
    world.hk.pay("dan", outward(world, quote, 20_00, 1))
    assert world.hk.refused("dan", inside(world, quote, 2, 2)) == [Result.QUOTE_EXHAUSTED]

    incoming = sells(world, "HKD", 10_00, "2.00000000", "incoming")
    first, second = inward(world, incoming, 5_00, 3), inward(world, incoming, 1, 4)
    world.sh.pay("ann", first)

    assert arrives(world, second) is Result.QUOTE_EXHAUSTED
    assert world.sh.view("ann", first).status is PaymentStatus.SETTLED


def test_quote_beyond_its_time(world: World) -> None:
    """In the block at the very instant of its expiry a quote no longer serves, a moment before it does."""
    quote = sells(world, "CNY", 10_00, "0.50000000")

    records = world.hk.pay("dan", inside(world, quote, 2_00, 1), at_ns=EXPIRES_NS - 1)
    assert set(records["result"].tolist()) == {Result.OK}
    assert world.hk.refused("dan", inside(world, quote, 2_00, 2), at_ns=EXPIRES_NS) == [Result.QUOTE_EXPIRED]
    assert world.hk.refused("dan", outward(world, quote, 2_00, 3)) == [Result.QUOTE_EXPIRED]


def test_quote_beyond_its_time_on_arrival(world: World) -> None:
    """A payment that reaches the provider's ledger too late is rejected there, and the payer has its money back."""
    quote = sells(world, "HKD", 10_00, "1.08430000")
    payment = inward(world, quote, 2_00, 1)
    world.sh.pay("ann", payment)
    world.hk.post("REGISTRAR-HK", "/v1/parties", {"parties": [party("late")]}, at_ns=EXPIRES_NS)

    assert arrives(world, inward(world, quote, 1_00, 2)) is Result.QUOTE_EXPIRED
    assert world.sh.view("ann", payment).reason is Result.QUOTE_EXPIRED
    assert world.sh.machine.state.hold_count == 0


def test_a_conversion_made_in_time_settles_after_the_quote_has_run_out(world: World) -> None:
    """What the payer's ledger has converted stays converted, however long its window takes."""
    quote = sells(world, "CNY", 10_00, "0.50000000")
    payment = outward(world, quote, 2_00, 1)
    world.hk.pay("dan", payment)
    world.hk.post("REGISTRAR-HK", "/v1/parties", {"parties": [party("late")]}, at_ns=EXPIRES_NS)

    assert world.settle([payment["uetr"]])
    assert world.settle()
    assert world.hk.view("dan", payment).status is PaymentStatus.SETTLED
    world.check()


def test_a_quote_of_nobody(world: World) -> None:
    """An unknown quote refuses a payment inside the ledger, and rejects one that arrives."""
    unknown = uetr_of("unknown")

    assert world.hk.refused("dan", inside(world, unknown, 2_00, 1)) == [Result.QUOTE_NOT_FOUND]
    assert arrives(world, inward(world, unknown, 2_00, 2)) is Result.QUOTE_NOT_FOUND


def test_a_quote_for_another_pair(world: World) -> None:
    """A quote in the wrong direction serves nobody, here or on arrival."""
    quote = sells(world, "HKD", 10_00, "1.08430000")
    wrong = sells(world, "CNY", 10_00, "0.92220000", "wrong")

    assert world.hk.refused("dan", inside(world, quote, 2_00, 1), outward(world, quote, 2_00, 2)) == [
        Result.QUOTE_MISMATCH,
        Result.QUOTE_MISMATCH,
    ]
    assert arrives(world, inward(world, wrong, 2_00, 3)) is Result.QUOTE_MISMATCH


def test_an_amount_too_small_to_convert(world: World) -> None:
    """Nobody pays for nothing: a conversion to zero is refused."""
    quote = sells(world, "CNY", 10_00, "0.50000000")
    dear = sells(world, "HKD", 10_00, "0.01000000", "dear")

    assert world.hk.refused("dan", inside(world, quote, 1, 1)) == [Result.CONVERTED_TO_ZERO]
    assert arrives(world, inward(world, dear, 99, 2)) is Result.CONVERTED_TO_ZERO


def test_a_provider_without_the_asset_it_sells(world: World) -> None:
    """The reason is the provider's lack, not the payer's, and the quote keeps its rest."""
    quote = sells(world, "CNY", 900_000_00, "8.00000000")
    local = inside(world, quote, 70_000_00, 1)

    assert world.hk.refused("dan", local, outward(world, quote, 70_000_00, 2)) == [Result.PROVIDER_LIMIT] * 2
    assert world.hk.view("dan", local).iso_reason == "ED05"
    assert quote_view(world.hk.machine, world.hk.book, int(quote.replace("-", ""), 16)).left == 900_000_00


def test_a_provider_without_the_asset_it_sells_on_arrival(world: World) -> None:
    """An incoming payment that the provider cannot serve is rejected, and the other ones are not."""
    quote = sells(world, "HKD", 3_000_000_00, "30.00000000")
    served, unserved = inward(world, quote, 30_000_00, 1), inward(world, quote, 4_000_00, 2)
    world.sh.pay("ann", served)

    assert arrives(world, unserved) is Result.PROVIDER_LIMIT
    assert world.sh.view("ann", served).creditor_amount == 900_000_00


def test_a_payer_without_money_learns_that_it_is_its_own_lack(world: World) -> None:
    """The payer's leg comes first, so a poor payer is told AM04 whatever the quote."""
    quote = sells(world, "CNY", 10_00, "0.00001000")

    assert world.hk.refused("dan", inside(world, quote, 200_000_00, 1)) == [Result.DEBIT_LIMIT]


# --- flows ------------------------------------------------------------------------------------------------------------


def test_a_provider_trades_with_itself_and_its_neighbours(world: World) -> None:
    """Payer or payee may bank with the provider, or be the provider: then fewer legs say the same."""
    quote = sells(world, "CNY", 100_00, "0.50000000")
    paid = world.payment("HK/POSITION.FX", "HK/WALLET.eva", 2_00, "HKD", creditor_asset="CNY", quote=quote)
    assert world.hk.refused("FX", paid) == [Result.SAME_ACCOUNT]

    received = world.payment("HK/WALLET.dan", "HK/FEES.FX", 2_00, "HKD", creditor_asset="CNY", quote=quote)
    assert world.hk.refused("dan", received) == [Result.PAYEE_NOT_FOUND]
    own = world.payment("HK/WALLET.dan", "HK/POSITION.FX", 2_00, "HKD", creditor_asset="CNY", quote=quote)
    assert world.hk.refused("dan", own) == [Result.SAME_ACCOUNT]
    world.check()


def test_a_converted_payment_shows_both_amounts_on_both_ledgers(world: World) -> None:
    """The payer's ledger learns from the acceptance what the payee receives."""
    quote = sells(world, "HKD", 1_000_00, "1.08430000")
    payment = inward(world, quote, 100_01, 1)
    world.sh.pay("ann", payment)
    assert world.sh.view("ann", payment).creditor_amount is None

    assert world.settle()

    for node, who in ((world.sh, "ann"), (world.hk, "eva")):
        view = node.view(who, payment)
        assert (view.amount, view.asset, view.creditor_amount, view.creditor_asset) == (100_01, "CNY", 108_44, "HKD")


def test_a_converted_payment_may_carry_a_fee(world: World) -> None:
    """The fee is in the payer's asset and goes to the payer's participant."""
    quote = sells(world, "CNY", 1_000_00, "0.50000000")

    world.hk.pay("dan", inside(world, quote, 2_00, 1) | {"fee": money(7, "HKD")})

    assert world.hk.balance("FEES.GAMMA", "HKD") == 7
    world.check()


# --- publishing -------------------------------------------------------------------------------------------------------


def offer(**changes: Any) -> dict[str, Any]:
    """Write a quote."""
    plain = {
        "quote": uetr_of("offer"),
        "sell": money(5_00, "HKD"),
        "buy": "CNY",
        "rate": "1.08430000",
        "expires": EXPIRES,
    }
    return plain | changes


@pytest.mark.parametrize("who", ["GAMMA", "dan", "HKMA"])
def test_only_a_provider_publishes(world: World, who: str) -> None:
    """It takes the role of FX provider."""
    error = world.hk.refusal(who, "/v1/quotes", offer())

    assert (type(error), error.code) == (Forbidden, "ROLE_MISSING")


def test_a_provider_must_have_joined_in_both_assets(world: World) -> None:
    """A provider that is no participant, or has accounts in one asset only, publishes nothing."""
    parties = [party("loose", "fx-provider"), party("half", "fx-provider", "participant")]
    world.hk.post("REGISTRAR-HK", "/v1/parties", {"parties": parties})
    world.hk.post("half", "/v1/participants", {"assets": ["HKD"]})

    assert world.hk.refusal("loose", "/v1/quotes", offer()).code == "NOT_PARTICIPANT"
    error = world.hk.refusal("half", "/v1/quotes", offer())
    assert (type(error), error.code) == (NotFound, "PARTICIPANT_ASSET")


def test_a_quote_is_published_once(world: World) -> None:
    """The id of a quote is used up for ever."""
    world.hk.post("FX", "/v1/quotes", offer())

    error = world.hk.refusal("FX", "/v1/quotes", offer(rate="9.00000000"))
    assert (type(error), error.code) == (Conflict, "QUOTE_EXISTS")


def test_a_quote_that_has_run_out_is_not_published(world: World) -> None:
    """A quote's expiry lies after the block that would hold it."""
    past = dt.datetime.fromtimestamp(CREATED_NS // SECOND, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    error = world.hk.refusal("FX", "/v1/quotes", offer(expires=past))
    assert (type(error), error.code) == (Rejected, "QUOTE_EXPIRED")


def test_all_quotes_of_a_provider_together_do_not_overflow(world: World) -> None:
    """A quote whose total would overflow the provider's counter is refused and serves nobody."""
    huge = money(2**63 - 1, "HKD")
    world.hk.post("FX", "/v1/quotes", offer(quote=uetr_of(1), sell=huge))

    records = world.hk.post("FX", "/v1/quotes", offer(quote=uetr_of(2), sell=huge))

    assert records["result"].tolist() == [Result.OVERFLOW]
    assert arrives(world, inward(world, uetr_of(2), 1_00, 3)) is Result.QUOTE_NOT_FOUND
    assert world.hk.post("FX", "/v1/quotes", offer(quote=uetr_of(2)))["result"].tolist() == [Result.ID_EXISTS]


def test_a_quote_shows_what_is_left(world: World) -> None:
    """The view of a quote names provider, pair, rate, total, rest and expiry."""
    quote = int(sells(world, "CNY", 10_00, "0.50000000").replace("-", ""), 16)
    world.hk.pay("dan", outward(world, uetr_of("quote"), 3_00, 1))

    view = quote_view(world.hk.machine, world.hk.book, quote)

    assert (view.provider, view.sell, view.buy, view.rate_e8) == ("FX", "CNY", "HKD", 50_000_000)
    assert (view.maximum, view.left, view.expires_ns) == (10_00, 8_50, EXPIRES_NS)
    with pytest.raises(NotFound, match="QUOTE_NOT_FOUND"):
        quote_view(world.hk.machine, world.hk.book, 1)
