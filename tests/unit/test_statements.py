"""Statements: one encoding each, and a refusal for every other; a statement's own arithmetic is checked on reading."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ledger import merkle, messages
from ledger.errors import MalformedInput
from ledger.transfers import Result
from settlement import statements
from settlement.book import PAYMENT
from settlement.packing import pack_selection, selected_of
from settlement.statements import (
    AcceptanceBody,
    Body,
    CloseBody,
    Completeness,
    DecisionBody,
    Direction,
    ListBody,
    NetPosition,
    ProposalBody,
    VoteBody,
    VoteReason,
    decode,
    digest_of,
    encode,
    rows_root,
    sign,
    statement_key,
    voters,
)
from tests.settlement_fixture import NETWORK_HASH, key_of

VECTORS = Path(__file__).parents[1] / "vectors" / "statements.json"
PAGE = Path(__file__).parents[2] / "docs" / "settlement.md"
UETR = 0x11111111_2222_4333_8444_555555555555


def row(position: int, **changes: object) -> np.ndarray[Any, np.dtype[np.void]]:
    """Give one payment of 12.34 in asset 1, from account 20 to account 30."""
    payment = np.zeros(1, PAYMENT)
    values = {
        "uetr_hi": UETR >> 64,
        "uetr_lo": (UETR + position) & (2**64 - 1),
        "amount": 1234,
        "creditor_amount": 1234,
    }
    values |= {"position": position, "debtor": 20, "creditor": 30, "debtor_participant": 2, "purpose": b"GDDS"}
    for name, value in {**values, "asset": 1, "creditor_asset": 1, **changes}.items():
        payment[name] = value
    return payment


def list_body(*rows: np.ndarray[Any, Any], **changes: Any) -> ListBody:
    """Give a list of payments by participant 2 in asset 1."""
    table = np.concatenate(rows) if rows else np.zeros(0, PAYMENT)
    body = ListBody(
        window=1,
        carried_in=0,
        carried_in_root=merkle.EMPTY_ROOT,
        accepted=len(rows),
        cancelled=0,
        count=len(rows),
        root=rows_root(table),
        participants=((2, "ALPHA"),) if rows else (),
        assets=((1, "CNY"),) if rows else (),
        rows=table.tobytes(),
        providers=bytes(4 * len(rows)),
    )
    return msgspec.structs.replace(body, **changes)


def column(dtype: type[np.generic], *values: int) -> bytes:
    """Give a column's bytes."""
    return np.array(values, dtype).tobytes()


LIST = list_body(row(7), row(9, amount=500, creditor_amount=500))
LIST_MESSAGE = sign(LIST, key=key_of("NODE-SH"), network_hash=NETWORK_HASH, ledger="SH")
ACCEPTANCE = AcceptanceBody(
    window=1,
    list_digest=digest_of(LIST_MESSAGE),
    count=2,
    rejected=1,
    participants=((3, "GAMMA"),),
    reasons=column(np.uint16, 0, 105),
    payees=column(np.uint32, 3, 0),
    providers=bytes(8),
    creditor_amounts=column(np.int64, 1234, 0),
)
PROPOSAL = ProposalBody(
    window=1,
    attempt=1,
    first_voter="HK",
    last_voter="SH",
    policy="fifo-readd/1",
    directions=(
        Direction("HK", hashlib.sha256(b"list HK").digest(), hashlib.sha256(b"acceptance SH").digest(), 0, b""),
        Direction("SH", digest_of(LIST_MESSAGE), hashlib.sha256(b"acceptance HK").digest(), 2, b"\x01"),
    ),
    nets=(NetPosition("HK", "GAMMA", "CNY", 1234), NetPosition("SH", "ALPHA", "CNY", -1234)),
)
VOTE = VoteBody(window=1, attempt=1, proposal_digest=hashlib.sha256(b"proposal").digest(), yes=True, reason=0)
DECISION = DecisionBody(
    window=1,
    attempt=1,
    proposal_digest=VOTE.proposal_digest,
    commit=True,
    first_vote_digest=hashlib.sha256(b"vote HK").digest(),
    last_vote_digest=hashlib.sha256(b"vote SH").digest(),
    directions=(
        Completeness("HK", 0, 0, 0, 0, 0, 0, merkle.EMPTY_ROOT),
        Completeness("SH", 0, 2, 1, 0, 1, 0, merkle.EMPTY_ROOT),
    ),
)
ABORT = msgspec.structs.replace(DECISION, commit=False, directions=())
SPEAKERS: dict[str, tuple[Body, str]] = {
    "close": (CloseBody(1), "--"),
    "list": (LIST, "SH"),
    "acceptance": (ACCEPTANCE, "HK"),
    "proposal": (PROPOSAL, "--"),
    "vote": (VOTE, "HK"),
    "decision": (DECISION, "SH"),
}


def read(body: bytes, *, kind: str, ledger: str, subject: str) -> Body:
    """Decode a body under a base that says what the arguments say."""
    key = key_of("anybody")
    message = messages.statement(key, network_hash=NETWORK_HASH, ledger=ledger, kind=kind, subject=subject, body=body)
    return decode(messages.parse(message), message.body)


def reread(body: Body, ledger: str) -> Body:
    """Decode what encodes a body."""
    return read(encode(body), kind=statements.kind_of(body), ledger=ledger, subject=statements.subject_of(body))


@pytest.mark.parametrize("kind", SPEAKERS)
def test_bodies_come_back(kind: str) -> None:
    """Decoding what was encoded gives the same body."""
    body, ledger = SPEAKERS[kind]
    assert reread(body, ledger) == body


@pytest.mark.parametrize("kind", SPEAKERS)
def test_the_golden_vectors_stand(kind: str) -> None:
    """Each kind's bytes and digest are those of the published vectors, and the page shows them."""
    body, ledger = SPEAKERS[kind]
    expected = json.loads(VECTORS.read_text())[kind]
    message = sign(
        body, key=key_of("SETTLEMENT" if ledger == "--" else f"NODE-{ledger}"), network_hash=NETWORK_HASH, ledger=ledger
    )
    assert encode(body).hex() == expected["body"]
    assert digest_of(message).hex() == expected["digest"]
    shown = "".join(PAGE.read_text().split())
    assert expected["body"] in shown
    assert expected["digest"] in shown


@pytest.mark.parametrize("kind", SPEAKERS)
def test_every_truncation_is_refused(kind: str) -> None:
    """A body that lost its last bytes is refused, and so is one with a byte more."""
    body, ledger = SPEAKERS[kind]
    data, subject = encode(body), statements.subject_of(body)
    for end in range(len(data)):
        with pytest.raises(MalformedInput, match="STATEMENT_"):
            read(data[:end], kind=kind, ledger=ledger, subject=subject)
    with pytest.raises(MalformedInput, match="STATEMENT_"):
        read(data + b"\x00", kind=kind, ledger=ledger, subject=subject)


@pytest.mark.parametrize("kind", SPEAKERS)
def test_every_flipped_byte_is_refused_or_another_body(kind: str) -> None:
    """Whatever is read from damaged bytes has exactly these bytes as its encoding."""
    body, ledger = SPEAKERS[kind]
    data = encode(body)
    for place in range(len(data)):
        for bit in (1, 0x80):
            changed = data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
            try:
                found = read(changed, kind=kind, ledger=ledger, subject=statements.subject_of(body))
            except MalformedInput:
                continue
            assert found != body
            assert encode(found) == changed


def test_longer_integers_are_not_canonical() -> None:
    """A number written with more bytes than it needs is refused."""
    with pytest.raises(MalformedInput, match="STATEMENT_NOT_CANONICAL"):
        read(b"\x91\xcc\x01", kind="close", ledger="--", subject="1/0")


def test_text_for_bytes_is_not_read() -> None:
    """A digest written as text is refused."""
    data = encode(VOTE).replace(b"\xc4\x20", b"\xd9\x20", 1)
    with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
        read(data, kind="vote", ledger="HK", subject="1/1")


def test_oversized_bodies_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body beyond the limit of a message is refused unread."""
    monkeypatch.setattr(messages, "BODY_SIZE_MAX", 1)
    with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
        read(b"\x91\x01", kind="close", ledger="--", subject="1/0")


def test_unknown_kinds_are_refused() -> None:
    """A kind that does not exist is refused by name."""
    with pytest.raises(MalformedInput, match="STATEMENT_UNKNOWN"):
        read(b"\x91\x01", kind="opinion", ledger="--", subject="1/0")


@pytest.mark.parametrize(("kind", "subject"), [("close", "2/0"), ("close", "1/1"), ("vote", "1/2"), ("vote", "1/0")])
def test_the_subject_is_that_of_the_body(kind: str, subject: str) -> None:
    """A base that names another window or attempt than its body is refused."""
    body, ledger = SPEAKERS[kind]
    with pytest.raises(MalformedInput, match="STATEMENT_SUBJECT"):
        read(encode(body), kind=kind, ledger=ledger, subject=subject)


@pytest.mark.parametrize("kind", SPEAKERS)
def test_speakers_speak_in_their_own_name(kind: str) -> None:
    """The operator does not speak for a ledger, and a node does."""
    body, ledger = SPEAKERS[kind]
    with pytest.raises(MalformedInput, match="STATEMENT_LEDGER"):
        reread(body, "SH" if ledger == "--" else "--")


FX = {"creditor_asset": 2, "creditor_amount": 0}
FX_TABLES: dict[str, Any] = {"assets": ((1, "CNY"), (2, "HKD"))}


@pytest.mark.parametrize(
    "body",
    [
        list_body(row(7), accepted=2),
        list_body(row(7), cancelled=1),
        list_body(row(7), count=2, accepted=2),
        list_body(row(7), root=bytes(32)),
        list_body(row(7), carried_in_root=bytes(32)),
        list_body(row(7), carried_in=1, accepted=0),
        list_body(row(7), providers=b""),
        list_body(row(7), providers=column(np.uint32, 2)),
        list_body(row(7), participants=()),
        list_body(row(7), participants=((2, "ALPHA"), (3, "BETA"))),
        list_body(row(7), participants=((3, "ALPHA"),)),
        list_body(row(7), participants=((2, "AL\n"),)),
        list_body(row(7), assets=((1, "cny"),)),
        list_body(row(7), row(9, debtor_participant=3), participants=((2, "ALPHA"), (3, "ALPHA"))),
        list_body(row(7), row(9, debtor_participant=3), participants=((3, "BETA"), (2, "ALPHA"))),
        list_body(row(7), row(7)),
        list_body(row(9), row(7)),
        list_body(row(7, amount=0, creditor_amount=0)),
        list_body(row(7, amount=-1, creditor_amount=-1)),
        list_body(row(7, creditor_amount=1)),
        list_body(row(7, creditor_participant=1)),
        list_body(row(7, debtor=0)),
        list_body(row(7, creditor=0)),
        list_body(row(7, debtor_participant=0), participants=()),
        list_body(row(7, asset=0, creditor_asset=0), assets=()),
        list_body(row(7, uetr_hi=0)),
        list_body(row(7, uetr_lo=0)),
        list_body(row(7, refund_hi=1)),
        list_body(row(7, refund_hi=UETR >> 64)),
        list_body(row(7, purpose=b"gdds")),
        list_body(row(7, purpose=b"G\0DS")),
        list_body(row(7, value_day=2**16)),
        list_body(row(7, creditor_asset=2, creditor_amount=5), **FX_TABLES),
        list_body(row(7, **FX), **FX_TABLES, providers=column(np.uint32, 2)),
    ],
)
def test_impossible_lists_are_refused(body: ListBody) -> None:
    """A list whose counts, root, tables or rows contradict themselves is refused."""
    with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
        reread(body, "SH")


@pytest.mark.parametrize(
    "body",
    [
        list_body(),
        list_body(row(7, purpose=b"")),
        list_body(row(7, value_day=2**16 - 1)),
        list_body(row(7, refund_hi=UETR >> 64, refund_lo=UETR & (2**64 - 1))),
        list_body(row(7, **FX), **FX_TABLES),
        list_body(row(7, creditor_asset=2, creditor_amount=5), **FX_TABLES, providers=column(np.uint32, 2)),
        list_body(row(7), accepted=3, cancelled=2),
        list_body(row(7), carried_in=1, accepted=0, carried_in_root=bytes(32)),
    ],
)
def test_unusual_lists_are_read(body: ListBody) -> None:
    """Empty lists, refunds, FX on either side, cancelled and carried payments are read."""
    assert reread(body, "SH") == body


@pytest.mark.parametrize(
    "changes",
    [
        {"rejected": 0},
        {"reasons": column(np.uint16, 0)},
        {"payees": column(np.uint32, 3, 3)},
        {"payees": column(np.uint32, 0, 0), "participants": ()},
        {"creditor_amounts": column(np.int64, 0, 0)},
        {"creditor_amounts": column(np.int64, 1234, 1)},
        {"creditor_amounts": column(np.int64, 1234, -1)},
        {"providers": column(np.uint32, 0, 3)},
        {"participants": ((3, "GAMMA"), (4, "DELTA"))},
        {"participants": ()},
        {"count": 1},
        {"list_digest": b"short"},
    ],
)
def test_impossible_acceptances_are_refused(changes: dict[str, Any]) -> None:
    """An acceptance whose columns contradict each other or their count is refused."""
    with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
        reread(msgspec.structs.replace(ACCEPTANCE, **changes), "HK")


@pytest.mark.parametrize("reason", [35, 99, 114, 9_999, 2**16 - 1])
def test_a_reason_that_is_no_result_is_refused(reason: int) -> None:
    """A rejection for a reason that this ledger cannot name is refused, so that every payment can be shown."""
    assert reason not in list(Result)
    with pytest.raises(MalformedInput, match="no result"):
        reread(msgspec.structs.replace(ACCEPTANCE, reasons=column(np.uint16, 0, reason)), "HK")


@pytest.mark.parametrize("reason", [result for result in Result if result is not Result.OK])
def test_every_refusal_is_a_reason(reason: Result) -> None:
    """A payment may be rejected for whatever a ledger can refuse one for."""
    body = msgspec.structs.replace(ACCEPTANCE, reasons=column(np.uint16, 0, reason))
    assert reread(body, "HK") == body


def direction(**changes: Any) -> tuple[Direction, Direction]:
    """Give a proposal's directions with Shanghai's changed."""
    return PROPOSAL.directions[0], msgspec.structs.replace(PROPOSAL.directions[1], **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"first_voter": "SH", "last_voter": "HK"},
        {"last_voter": "HK"},
        {"directions": PROPOSAL.directions[::-1]},
        {"directions": (PROPOSAL.directions[1], PROPOSAL.directions[1])},
        {"directions": direction(selection=b"")},
        {"directions": direction(selection=b"\x01\x00")},
        {"directions": direction(selection=b"\x04")},
        {"policy": "Any/1"},
        {"nets": PROPOSAL.nets[::-1]},
        {"nets": PROPOSAL.nets[:1]},
        {"nets": (PROPOSAL.nets[0], NetPosition("SH", "ALPHA", "HKD", -1234))},
        {"nets": (*PROPOSAL.nets, NetPosition("SH", "BETA", "CNY", 0))},
        {"nets": (PROPOSAL.nets[0], NetPosition("US", "ALPHA", "CNY", -1234))},
        {"nets": (PROPOSAL.nets[0], *PROPOSAL.nets)},
        {"attempt": 0},
    ],
)
def test_impossible_proposals_are_refused(changes: dict[str, Any]) -> None:
    """A proposal with the wrong voters, directions, selections or net positions (I6) is refused."""
    with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
        reread(msgspec.structs.replace(PROPOSAL, **changes), "--")


@pytest.mark.parametrize("changes", [{"yes": False}, {"reason": 1}, {"yes": False, "reason": 6}, {"attempt": 2**16}])
def test_impossible_votes_are_refused(changes: dict[str, Any]) -> None:
    """A yes with a reason, a no without one or with an unknown one is refused."""
    with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
        reread(msgspec.structs.replace(VOTE, **changes), "HK")


def test_a_no_is_read() -> None:
    """A no with a reason is read, and so is the abort that follows."""
    no = msgspec.structs.replace(VOTE, yes=False, reason=int(VoteReason.FUNDS_SHORT))
    assert reread(no, "HK") == no
    assert reread(ABORT, "SH") == ABORT


@pytest.mark.parametrize(
    "body",
    [
        msgspec.structs.replace(DECISION, commit=False),
        msgspec.structs.replace(DECISION, directions=()),
        msgspec.structs.replace(DECISION, directions=DECISION.directions[::-1]),
        msgspec.structs.replace(DECISION, directions=DECISION.directions[:1]),
        msgspec.structs.replace(
            DECISION, directions=(DECISION.directions[0], Completeness("SH", 0, 2, 2, 0, 1, 0, merkle.EMPTY_ROOT))
        ),
        msgspec.structs.replace(
            DECISION, directions=(DECISION.directions[0], Completeness("SH", 0, 2, 0, 0, 1, 1, merkle.EMPTY_ROOT))
        ),
    ],
)
def test_impossible_decisions_are_refused(body: DecisionBody) -> None:
    """A decision that counts wrongly (I13), or counts what it does not decide, is refused."""
    with pytest.raises(MalformedInput, match="STATEMENT_MALFORMED"):
        reread(body, "SH")


def test_statements_are_reproducible() -> None:
    """The same body by the same speaker is the same message to the last byte."""
    again = sign(LIST, key=key_of("NODE-SH"), network_hash=NETWORK_HASH, ledger="SH")
    assert again == LIST_MESSAGE
    assert digest_of(again) == digest_of(LIST_MESSAGE)


def test_two_speakers_never_share_a_digest() -> None:
    """Equal votes of the two nodes have different digests."""
    votes = {
        digest_of(sign(VOTE, key=key_of(f"NODE-{at}"), network_hash=NETWORK_HASH, ledger=at)) for at in ("SH", "HK")
    }
    assert len(votes) == 2


def test_nodes_take_turns_in_deciding() -> None:
    """Shanghai decides odd windows, Hong Kong even ones."""
    assert voters(1) == ("HK", "SH")
    assert voters(2) == ("SH", "HK")
    assert (statements.last_voter(1), statements.last_voter(2)) == ("SH", "HK")


def test_statements_have_names() -> None:
    """A window keeps statements by kind, speaker and attempt."""
    assert statement_key("close") == "close"
    assert statement_key("list", "SH") == "list/SH"
    assert statement_key("proposal", attempt=2) == "proposal/--/2"
    assert statement_key("vote", "HK", 1) == "vote/HK/1"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 4_000])
def test_selections_come_back(count: int) -> None:
    """A selection packs into one bit a payment and comes back."""
    selected = np.arange(count) % 3 == 0
    data = pack_selection(selected)
    assert len(data) == (count + 7) // 8
    assert selected_of(data, count).tolist() == selected.tolist()
