"""Certificates: nine statements prove a window; any byte changed and any lie re-signed is found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger import messages
from ledger.errors import IntegrityFailure, NotFound
from ledger.merkle import EMPTY_ROOT
from ledger.messages import Message
from settlement import answers, certificate
from settlement.certificate import FORMAT, build, verify, verify_chain
from settlement.report import AssetTotals
from settlement.statements import (
    LEDGERS,
    Body,
    NetPosition,
    VoteBody,
    decode,
    digest_of,
    sign,
)
from tests.cycle_steps import Steps
from tests.settlement_fixture import NETWORK, NETWORK_HASH, World, genesis_of, key_of, uetr_of
from tests.signed_again import signed_again

PAIR = (genesis_of("SH"), genesis_of("HK"))


def settled_world() -> World:
    """Give a world whose first window settles one plain payment and one with FX, and carries one."""
    world = World.funded()
    world.quote(sell="HKD", maximum=1_000_000, buy="CNY", rate="1.08430000")
    world.sh.pay("ann", world.payment("SH/WALLET.ann", "HK/WALLET.dan", 4_000))
    fx = {"creditor_asset": "HKD", "quote": uetr_of("quote")}
    world.sh.pay("cai", world.payment("SH/WALLET.cai", "HK/WALLET.eva", 10_000, **fx))
    world.sh.pay("ben", world.payment("SH/WALLET.ben", "HK/WALLET.eva", 77))
    return world


@pytest.fixture(scope="module")
def settled() -> Steps:
    """Give that window, settled."""
    steps = Steps(settled_world()).to_acceptance()
    steps.propose(steps.proposal(leave_out={"SH": [2]}))
    steps.vote()
    steps.decide()
    return steps


@pytest.fixture(scope="module")
def document(settled: Steps) -> bytes:
    """Give its certificate."""
    return build(settled.window("SH").statements)


def test_a_certificate_says_what_happened(document: bytes) -> None:
    """A verified certificate gives counts, gross, net and every net position."""
    found = verify(document, PAIR)
    report = found.report
    assert (found.network, found.decided_by, report.window, report.attempt) == (NETWORK, "SH", 1, 1)
    assert (report.accepted, report.settled, report.carried_out, report.rejected) == (3, 2, 1, 0)
    assert (report.carried_in, report.cancelled) == (0, 0)
    assert {asset: (totals.gross, totals.net) for asset, totals in report.assets.items()} == {
        "CNY": (14_000, 14_000),
        "HKD": (10_843, 10_843),
    }
    assert NetPosition("HK", "FX", "HKD", -10_843) in report.nets
    assert found.carried_in == dict.fromkeys(LEDGERS, (0, EMPTY_ROOT))
    assert found.carried_out["SH"][0] == 1


def test_both_nodes_make_the_same_certificate(settled: Steps, document: bytes) -> None:
    """Either node's journal gives the same bytes."""
    assert build(settled.window("HK").statements) == document


def test_certificates_may_differ_in_signatures(settled: Steps, document: bytes) -> None:
    """Where a speaker has signed twice, each node's certificate verifies, and both say the same."""
    again = {name: signed_again(message) for name, message in settled.window("HK").statements.items()}
    assert build(again) != document
    assert verify(build(again), PAIR) == verify(document, PAIR)


def test_netting_saves(document: bytes) -> None:
    """A certificate's totals say what netting saved, which for one-way payments is nothing."""
    totals = verify(document, PAIR).report.assets
    assert [totals[asset].saving_bp for asset in ("CNY", "HKD")] == [0, 0]
    assert AssetTotals(0, 0).saving_bp == 0
    assert AssetTotals(83, 13).saving_bp == 8_433


def test_unsettled_windows_have_none(settled: Steps) -> None:
    """There is no certificate before the decision, nor of an abort."""
    statements = settled.window("SH").statements
    for missing in ("close", "proposal/--/1", "vote/HK/1", "decision/SH/1"):
        with pytest.raises(NotFound, match="CERTIFICATE_MISSING"):
            build({name: message for name, message in statements.items() if name != missing})
    abort = msgspec.structs.replace(settled.decision(), commit=False, directions=())
    with pytest.raises(NotFound, match="CERTIFICATE_MISSING"):
        build(statements | {"decision/SH/1": settled.say("SH", abort)})


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.long)])
def test_every_flipped_byte_is_found(document: bytes, step: int) -> None:
    """A certificate with any byte changed does not verify."""
    for place in range(0, len(document), step):
        changed = document[:place] + bytes([document[place] ^ 0x04]) + document[place + 1 :]
        with pytest.raises(IntegrityFailure, match="CERTIFICATE_"):
            verify(changed, PAIR)


def test_every_cut_is_found(document: bytes) -> None:
    """A certificate that lost its end, or gained a byte, does not verify."""
    for end in range(0, len(document), 37):
        with pytest.raises(IntegrityFailure, match="CERTIFICATE_MALFORMED"):
            verify(document[:end], PAIR)
    with pytest.raises(IntegrityFailure, match="CERTIFICATE_MALFORMED"):
        verify(document + b"\x00", PAIR)


def test_oversized_documents_are_not_read(document: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document larger than nine statements can be is refused unread."""
    monkeypatch.setattr(certificate, "SIZE_MAX", len(document) - 1)
    with pytest.raises(IntegrityFailure, match="CERTIFICATE_MALFORMED"):
        verify(document, PAIR)


def parts(document: bytes) -> list[bytes]:
    """Take a certificate's statements out."""
    format_name, stored = msgspec.msgpack.decode(document)
    assert format_name == FORMAT
    return list(stored)


def assemble(stored: list[bytes], name: str = FORMAT) -> bytes:
    """Put a certificate together."""
    return msgspec.msgpack.encode([name, stored])


def test_statements_in_another_order_are_found(document: bytes) -> None:
    """Two statements exchanged do not verify, whichever they are."""
    stored = parts(document)
    for place in range(8):
        swapped = stored.copy()
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        with pytest.raises(IntegrityFailure, match="CERTIFICATE_"):
            verify(assemble(swapped), PAIR)


def test_other_formats_are_refused(document: bytes) -> None:
    """A document of another version or with other statements than nine is refused."""
    stored = parts(document)
    for changed in (assemble(stored, "hugang-certificate/0"), assemble(stored[:8]), assemble([*stored, stored[0]])):
        with pytest.raises(IntegrityFailure, match="CERTIFICATE_MALFORMED"):
            verify(changed, PAIR)


def replaced(document: bytes, place: int, body: Body, *, speaker: str, key: str) -> list[bytes]:
    """Give the statements with one said anew by whoever holds its key."""
    stored = parts(document)
    stored[place] = messages.encode(sign(body, key=key_of(key), network_hash=NETWORK_HASH, ledger=speaker))
    return stored


def body_at(document: bytes, place: int) -> Any:
    """Read the body of one statement."""
    message = messages.decode(parts(document)[place])
    return decode(messages.parse(message), message.body)


@pytest.mark.parametrize(
    ("place", "changes", "speaker", "key"),
    [
        (3, {"list_digest": bytes(32)}, "HK", "NODE-HK"),
        (5, {"nets": ()}, "--", "SETTLEMENT"),
        (5, {"attempt": 2}, "--", "SETTLEMENT"),
        (6, {"yes": False, "reason": 1}, "HK", "NODE-HK"),
        (6, {"proposal_digest": bytes(32)}, "HK", "NODE-HK"),
        (7, {"yes": False, "reason": 1}, "SH", "NODE-SH"),
        (8, {"first_vote_digest": bytes(32)}, "SH", "NODE-SH"),
        (8, {"commit": False, "directions": ()}, "SH", "NODE-SH"),
        (2, {"accepted": 4, "cancelled": 1}, "SH", "NODE-SH"),
        (0, {"window": 2}, "--", "SETTLEMENT"),
    ],
)
def test_lies_that_are_signed_are_found(
    document: bytes, place: int, changes: dict[str, Any], speaker: str, key: str
) -> None:
    """A statement that its own speaker has signed anew with another content does not fit the others."""
    body = msgspec.structs.replace(body_at(document, place), **changes)
    with pytest.raises(IntegrityFailure, match="CERTIFICATE_MISMATCH"):
        verify(assemble(replaced(document, place, body, speaker=speaker, key=key)), PAIR)


def test_amounts_that_the_list_has_fixed_stand(document: bytes) -> None:
    """An acceptance that pays out another amount than the list says is found although its node signed it."""
    body = body_at(document, 3)
    amounts = (4_001).to_bytes(8, "little") + body.creditor_amounts[8:]
    stored = replaced(document, 3, msgspec.structs.replace(body, creditor_amounts=amounts), speaker="HK", key="NODE-HK")
    with pytest.raises(IntegrityFailure, match="changes an amount"):
        verify(assemble(stored), PAIR)


def conspire(settled: Steps, **changes: Any) -> bytes:
    """Have operator and both nodes sign a false proposal together, with votes and a decision that follow from it."""
    stored: dict[str, Message] = dict(settled.window("SH").statements)
    proposal = settled.say("--", msgspec.structs.replace(settled.proposal(leave_out={"SH": [2]}), **changes))
    vote = VoteBody(1, 1, digest_of(proposal), yes=True, reason=0)
    first, last = settled.say("HK", vote), settled.say("SH", vote)
    decision = answers.decision_of(answers.signed_of(settled.window("SH")), proposal, first_vote=first, last_vote=last)
    stored |= {"proposal/--/1": proposal, "vote/HK/1": first, "vote/SH/1": last}
    return build(stored | {"decision/SH/1": settled.say("SH", decision)})


def test_conspirators_cannot_invent_nets(settled: Steps) -> None:
    """Net positions that do not follow from the lists are found although everybody signed them (I6)."""
    assert verify(conspire(settled), PAIR).report.settled == 2
    nets = (NetPosition("HK", "GAMMA", "CNY", 1), NetPosition("SH", "ALPHA", "CNY", -1))
    with pytest.raises(IntegrityFailure, match="net positions do not follow"):
        verify(conspire(settled, nets=nets), PAIR)


def test_conspirators_cannot_change_inputs(settled: Steps) -> None:
    """A proposal of other lists is found although everybody signed it."""
    directions = settled.proposal(leave_out={"SH": [2]}).directions
    wrong = (msgspec.structs.replace(directions[0], list_digest=bytes(32)), directions[1])
    with pytest.raises(IntegrityFailure, match="other lists"):
        verify(conspire(settled, directions=wrong), PAIR)


def test_rejected_payments_cannot_be_selected() -> None:
    """A proposal that settles what was rejected is found although everybody signed it."""
    world = World.funded()
    payment = world.payment("SH/WALLET.ann", "HK/WALLET.dan", 5)
    world.sh.pay("ann", payment | {"creditor": world.address("HK/CLEARING.GAMMA")})
    steps = Steps(world).to_decision()
    stored = dict(steps.window("SH").statements)
    honest = steps.proposal()
    directions = (honest.directions[0], msgspec.structs.replace(honest.directions[1], selection=b"\x01"))
    stored["proposal/--/1"] = steps.say("--", msgspec.structs.replace(honest, directions=directions))
    with pytest.raises(IntegrityFailure, match="rejected"):
        verify(build(stored), PAIR)


def test_strangers_prove_nothing(document: bytes) -> None:
    """A statement by a key that the genesis does not give to its speaker is found."""
    body = body_at(document, 7)
    with pytest.raises(IntegrityFailure, match="CERTIFICATE_STATEMENT"):
        verify(assemble(replaced(document, 7, body, speaker="SH", key="NODE-HK")), PAIR)


def test_the_pair_must_be_one(document: bytes) -> None:
    """Two genesis blocks of one ledger, of two networks, though they share the name, or with other keys are no pair."""
    other = msgspec.structs.replace(PAIR[1], network="hugang-other")
    same_name = msgspec.structs.replace(PAIR[1], created_ns=PAIR[1].created_ns + 1)
    third = msgspec.structs.replace(PAIR[1], ledger="XX")
    parties = tuple(
        msgspec.structs.replace(party, public_key=PAIR[1].node("HK").public_key[::-1])
        if party.ledger == "HK"
        else party
        for party in PAIR[1].parties
    )
    strangers = (PAIR[0], other, same_name, third, msgspec.structs.replace(PAIR[1], parties=parties))
    for pair in ((PAIR[0], stranger) for stranger in strangers):
        with pytest.raises(IntegrityFailure, match="GENESIS_PAIR"):
            verify(document, pair)


def test_a_certificate_of_another_network_of_the_same_name(document: bytes) -> None:
    """Statements that the same keys made in another network, which shares the name, prove nothing in this one."""
    pair = tuple(msgspec.structs.replace(genesis, created_ns=genesis.created_ns + 1) for genesis in PAIR)
    with pytest.raises(IntegrityFailure, match="CERTIFICATE_STATEMENT"):
        verify(document, (pair[0], pair[1]))


def test_certificates_chain(settled: Steps, document: bytes) -> None:
    """Each window carries in what the one before has carried out, count and root (I13)."""
    second = Steps(settled.world, 2)
    if "decision/HK/1" not in second.window("SH").statements:
        second.to_decision()
    following = build(second.window("SH").statements)
    chain = verify_chain([document, following], PAIR)
    assert chain[1].carried_in == chain[0].carried_out
    assert chain[1].carried_in["SH"][0] == 1
    with pytest.raises(IntegrityFailure, match="CERTIFICATE_CHAIN"):
        verify_chain([following, document], PAIR)
    fresh = Steps(World.funded()).to_decision()
    with pytest.raises(IntegrityFailure, match="CERTIFICATE_CHAIN"):
        verify_chain([build(fresh.window("SH").statements), following], PAIR)
