"""Net debit caps: what a participant may owe to windows that are not decided."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger.errors import Forbidden, MalformedInput, NotFound
from ledger.transfers import Result
from settlement import views
from settlement.statements import VoteReason, voters
from tests.cycle_steps import Steps
from tests.settlement_fixture import World

CAPS = "/v1/caps"


@pytest.fixture
def world() -> World:
    """Two ledgers with money of both kinds in Hong Kong."""
    return World.everywhere()


def cap(participant: str, maximum: int | None, asset: str = "CNY") -> dict[str, Any]:
    """Give the body that caps one participant."""
    text = None if maximum is None else str(maximum)
    return {"caps": [{"participant": participant, "asset": asset, "maximum": text}]}


def capped(world: World, participant: str = "GAMMA", maximum: int | None = 10_00) -> None:
    """Cap a participant of Hong Kong."""
    world.hk.post("REGISTRAR-HK", CAPS, cap(participant, maximum))


def out(world: World, amount: int, who: str = "dan") -> dict[str, Any]:
    """Write a payment from Hong Kong to Shanghai."""
    return world.payment(f"HK/WALLET.{who}", "SH/WALLET.ann", amount)


def results(world: World, *payments: dict[str, Any], who: str = "dan") -> list[int]:
    """Send payments in Hong Kong; gives their results."""
    found: list[int] = world.hk.pay(who, *payments)["result"].tolist()
    return found


def test_what_is_owed_to_windows_has_a_top(world: World) -> None:
    """Payments across the border pass up to the cap and not above it, whoever of the participant's customers pays."""
    capped(world)

    assert results(world, out(world, 6_00), out(world, 4_01), out(world, 4_00)) == [
        Result.OK,
        Result.CREDIT_MAXIMUM,
        Result.OK,
    ]
    assert world.hk.refused("dan", out(world, 1)) == [Result.CREDIT_MAXIMUM]
    assert results(world, out(world, 500_00, "eva"), who="eva") == [Result.OK]
    inside = world.payment("HK/WALLET.dan", "HK/WALLET.eva", 500_00)
    assert set(results(world, inside)) == {Result.OK}


@pytest.mark.parametrize("left_out", [False, True])
def test_a_decided_window_is_owed_nothing_more(world: World, left_out: bool) -> None:
    """What settled makes room again; what was carried out still counts."""
    capped(world)
    payment = out(world, 10_00)
    world.hk.pay("dan", payment)
    assert world.settle([payment["uetr"]] if left_out else [])

    expected = Result.CREDIT_MAXIMUM if left_out else Result.OK
    assert results(world, out(world, 10_00)) == [expected]
    world.check()


def test_a_cap_is_changed_and_lifted(world: World) -> None:
    """A cap below what is owed already lets nothing more pass, and the window still settles; no cap bounds nothing."""
    world.hk.pay("dan", out(world, 10_00))
    capped(world, maximum=5_00)
    assert world.hk.refused("dan", out(world, 1)) == [Result.CREDIT_MAXIMUM]
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 3_00))
    assert world.settle()
    assert results(world, out(world, 5_00)) == [Result.OK]

    capped(world, maximum=None)
    assert results(world, out(world, 500_00)) == [Result.OK]
    capped(world, "DELTA", maximum=None)
    assert world.hk.book.caps == {}
    world.check()


def voted(world: World) -> Steps:
    """Come as far as both yes votes on a window in which GAMMA, capped at 10.00, owes 8.00 and is owed 40.00."""
    capped(world)
    world.hk.pay("dan", out(world, 8_00))
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00))
    steps = Steps(world, world.hk.book.current).to_acceptance()
    steps.propose()
    steps.vote()
    assert steps.window("HK").state == "VOTED"
    return steps


def test_a_net_recipient_is_not_stopped_by_its_cap(world: World) -> None:
    """A reserved net position neither breaks the cap nor uses it up: only what the participant owes counts."""
    steps = voted(world)
    assert results(world, out(world, 2_00), out(world, 1)) == [Result.OK, Result.CREDIT_MAXIMUM]

    steps.decide()
    assert results(world, out(world, 8_00), out(world, 1)) == [Result.OK, Result.CREDIT_MAXIMUM]
    assert world.hk.book.cap_rooms == {}
    world.check()


def test_a_cap_that_changes_during_a_vote_keeps_its_room(world: World) -> None:
    """The new cap counts at once, beside what the vote has reserved; after the decision it is exactly the cap."""
    steps = voted(world)
    capped(world, maximum=9_00)
    assert results(world, out(world, 1_00), out(world, 1)) == [Result.OK, Result.CREDIT_MAXIMUM]

    capped(world, maximum=None)
    steps.decide()
    assert results(world, out(world, 500_00)) == [Result.OK]
    world.check()


@pytest.mark.parametrize("left_out", [False, True])
def test_a_cap_below_what_is_owed_does_not_stop_a_net_recipients_vote(world: World, left_out: bool) -> None:
    """The window of a participant that owes more than its new cap, and is owed more still, settles all the same."""
    payment = out(world, 10_00)
    world.hk.pay("dan", payment)
    capped(world, maximum=5_00)
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00))
    assert world.settle([payment["uetr"]] if left_out else [])

    refused = Result.CREDIT_MAXIMUM
    assert results(world, out(world, 5_01), out(world, 5_00)) == [refused, refused if left_out else Result.OK]
    if left_out:
        world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00))
        assert world.settle()
        assert results(world, out(world, 5_00), out(world, 1)) == [Result.OK, refused]
    world.check()


def test_a_reserved_net_position_makes_no_room_above_a_cap(world: World) -> None:
    """Between vote and decision payments stay below the cap, also when what was above it is cancelled meanwhile."""
    first, second = out(world, 10_00), out(world, 2_00)
    world.hk.pay("dan", first)
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00))
    steps = Steps(world, world.hk.book.current).to_acceptance()
    world.hk.pay("dan", second)
    capped(world, maximum=11_00)
    steps.propose()
    steps.vote()
    assert world.hk.refused("dan", out(world, 1)) == [Result.CREDIT_MAXIMUM]

    world.hk.post("dan", "/v1/cancellations", {"uetr": second["uetr"]})
    assert results(world, out(world, 1_01), out(world, 1_00)) == [Result.CREDIT_MAXIMUM, Result.OK]
    steps.decide()
    assert results(world, out(world, 10_01), out(world, 10_00)) == [Result.CREDIT_MAXIMUM, Result.OK]
    world.check()


def test_an_aborted_attempt_takes_its_room_away(world: World) -> None:
    """After an abort the cap is again all that the participant may owe."""
    capped(world)
    world.hk.pay("dan", out(world, 8_00))
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00))
    if voters(world.hk.book.current)[0] != "HK":
        assert world.settle()
        world.hk.pay("dan", out(world, 8_00))
        world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 40_00))
    number = world.hk.book.current
    steps = Steps(world, number).to_acceptance()
    steps.propose()
    steps.deliver(steps.say("HK", steps.vote_of("HK")))
    no = msgspec.structs.replace(steps.vote_of("SH"), yes=False, reason=VoteReason.FUNDS_SHORT)
    assert world.hk.book.cap_rooms
    steps.deliver(steps.say("SH", no))
    steps.decide()

    assert world.hk.book.cap_rooms == {}
    assert results(world, out(world, 2_00), out(world, 1)) == [Result.OK, Result.CREDIT_MAXIMUM]
    world.check()


def test_a_providers_cap_is_its_own_affair(world: World) -> None:
    """Where the provider would owe more than its cap, the payer reads that the provider cannot pay."""
    quote = world.quote(sell="CNY", maximum=100_00, buy="HKD", rate="1.00000000")
    capped(world, "FX", 5_00)
    payment = world.payment("HK/WALLET.dan", "SH/WALLET.ann", 5_01, "HKD", creditor_asset="CNY", quote=quote)

    assert world.hk.refused("dan", payment) == [Result.PROVIDER_LIMIT]


def test_the_issuer_can_be_capped_too(world: World) -> None:
    """The issuer's CLEARING account is bounded like any other."""
    world.sh.post("REGISTRAR-SH", CAPS, cap("PBOC", 5_00))

    assert world.sh.refused("PBOC", world.payment("SH/ISSUE", "HK/WALLET.dan", 5_01)) == [Result.CREDIT_MAXIMUM]


def test_caps_are_shown(world: World) -> None:
    """A participant shows its caps by asset, and none where there is none."""
    capped(world)
    world.hk.post("REGISTRAR-HK", CAPS, cap("GAMMA", 7, "HKD"))

    shown = {view.code: view.caps for view in views.participants_view(world.hk.book)}
    assert shown["GAMMA"] == (("CNY", 10_00), ("HKD", 7))
    assert shown["DELTA"] == ()


def test_only_a_registrar_caps(world: World) -> None:
    """A participant caps nobody, not even itself."""
    error = world.hk.refusal("GAMMA", CAPS, cap("GAMMA", 5))

    assert (type(error), error.code) == (Forbidden, "ROLE_MISSING")


@pytest.mark.parametrize(
    ("participant", "asset", "code"), [("dan", "CNY", "PARTICIPANT_NOT_FOUND"), ("HKMA", "CNY", "PARTICIPANT_ASSET")]
)
def test_a_cap_is_of_a_participant_with_accounts(world: World, participant: str, asset: str, code: str) -> None:
    """Neither a customer nor a participant without accounts in the asset can be capped."""
    error = world.hk.refusal("REGISTRAR-HK", CAPS, cap(participant, 5, asset))

    assert (type(error), error.code) == (NotFound, code)


@pytest.mark.parametrize(
    ("caps", "code", "path"),
    [
        ([{"participant": "GAMMA", "asset": "QCNY", "maximum": "1"}], "ASSET_UNKNOWN", "$.caps[0].asset"),
        ([{"participant": "GAMMA", "asset": "CNY", "maximum": "01"}], "BODY_MALFORMED", "$.caps[0].maximum"),
        ([{"participant": "GAMMA", "asset": "CNY", "maximum": 1}], "BODY_MALFORMED", "$.caps[0].maximum"),
        ([{"participant": "GAMMA", "asset": "CNY"}], "BODY_MALFORMED", "$.caps[0]"),
        ([{"participant": "GAMMA", "asset": "CNY", "maximum": None}] * 2, "BODY_MALFORMED", "$.caps"),
    ],
)
def test_caps_are_strictly_read(world: World, caps: list[Any], code: str, path: str) -> None:
    """A cap is digits or null, of money, and each account has one."""
    with pytest.raises(MalformedInput) as caught:
        world.hk.post("REGISTRAR-HK", CAPS, {"caps": caps})
    assert (caught.value.code, caught.value.fields["path"]) == (code, path)


def test_caps_follow_from_the_journal(world: World) -> None:
    """A replay gives the same caps, rooms and money."""
    voted(world)
    again = world.hk.replayed(compiled=False)

    assert (again.book.caps, again.book.cap_rooms) == (world.hk.book.caps, world.hk.book.cap_rooms)
    assert again.machine.state.money_digest() == world.hk.machine.state.money_digest()
