"""Receipts: what they show, that every byte of them is held by something, and how small they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ledger import checkpoint, journal, logs, merkle, messages, receipts, signatures
from ledger.checkpoint import Note
from ledger.errors import IntegrityFailure, InvariantViolation, NotFound
from ledger.genesis import Genesis
from ledger.machine import record_leaf
from ledger.receipts import FORMAT, ReceiptView, Wanted, join, make_receipt, verify_receipt
from ledger.transfers import TRANSFER
from tests.receipt_fixture import COSIGNED_AT_S, PAIR, Journals, cosigned_note, journals
from tests.settlement_fixture import NETWORK, NETWORK_HASH, genesis_of, key_of

SIZE_MAX = 8 * 1024
HUGE = 100_000_000
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "receipts.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def made() -> Journals:
    """Give the journals that the receipts are of."""
    return journals()


@pytest.fixture(scope="module")
def single(made: Journals) -> bytes:
    """Give the receipt of a payment across the border that was sent by itself and settled."""
    return made.receipt("SH", "ann", "single")


@pytest.fixture(scope="module")
def batch(made: Journals) -> bytes:
    """Give the receipt of a payment that was sent with another under one signature."""
    return made.receipt("SH", "cai", "batch")


@pytest.fixture(scope="module")
def both(made: Journals, single: bytes) -> bytes:
    """Give the receipt with the parts of both ledgers."""
    return join(single, made.receipt("HK", "dan", "single"))


def contents_of(receipt: bytes) -> list[receipts._Content]:
    """Read a receipt's parts."""
    return [content for content, _ in receipts._read(receipt)]


def signed(*contents: receipts._Content | bytes, ledger: str = "SH") -> bytes:
    """Write parts that a ledger's node has signed, whatever they say."""
    parts = []
    for content in contents:
        data = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
        signature = key_of(f"NODE-{ledger}").sign(f"{FORMAT}\n".encode() + hashlib.sha256(data).digest())
        parts.append([data, signature])
    return msgspec.msgpack.encode([FORMAT, parts])


def lie(receipt: bytes, **changes: Any) -> bytes:
    """Change a receipt's only part and have its node sign that."""
    return signed(msgspec.structs.replace(contents_of(receipt)[0], **changes))


def refused(receipt: bytes, code: str, genesis: Genesis = PAIR["SH"]) -> str:
    """Verify a receipt that must be refused; gives the sentence."""
    with pytest.raises(IntegrityFailure) as caught:
        verify_receipt(receipt, genesis)
    assert caught.value.code == code
    return caught.value.sentence


# --- what a receipt shows ---------------------------------------------------------------------------------------------


def test_a_receipt_shows_the_message_and_its_records(made: Journals, single: bytes) -> None:
    """A receipt gives the signed message, its position and records, the block, and the checkpoint with its times."""
    (part,) = verify_receipt(single, PAIR["SH"]).parts
    record = made.sources["SH"].reader.record(part.record_positions[0])
    assert part.ledger == "SH"
    assert part.records.tobytes() == record.tobytes()
    assert part.envelope.topic == "/v1/payments"
    assert part.body is not None
    assert json.loads(part.body) == made.payments["single"]
    assert part.record_positions == (part.position + 1,)
    assert part.block_hash == hashlib.sha256(made.stores["SH"].header(part.header.height)).digest()
    assert (part.tree_size, part.tree_root) == (made.machines["SH"].frontier.size, made.machines["SH"].frontier.root())
    assert part.cosigned_at_s == {f"{NETWORK}/hk": COSIGNED_AT_S}
    assert [item.envelope.topic for item in part.evidence] == ["statement:decision"]


def test_a_receipt_of_many_shows_no_other_payment(made: Journals, batch: bytes) -> None:
    """Of a batch, base and signature are shown, and nothing of the other payments."""
    (part,) = verify_receipt(batch, PAIR["SH"]).parts
    entry = made.sources["SH"].reader.entry(part.position)
    assert part.body is None
    assert part.envelope == messages.parse(entry.message)
    assert part.envelope.digest == hashlib.sha256(entry.message.body).digest()
    other = made.payments["first"]["uetr"]
    assert other.encode() in entry.message.body
    assert other.encode() not in batch
    assert bytes.fromhex(other.replace("-", "")) not in batch


def test_a_receipt_of_both_ledgers(made: Journals, both: bytes) -> None:
    """Two ledgers' receipts make one with both parts, which either genesis verifies."""
    for genesis in PAIR.values():
        view = verify_receipt(both, genesis)
        assert [part.ledger for part in view.parts] == ["HK", "SH"]
        assert [item.envelope.topic for part in view.parts for item in part.evidence] == ["statement:decision"] * 2
    decisions = {item.message.body for part in verify_receipt(both, PAIR["SH"]).parts for item in part.evidence}
    assert len(decisions) == 1


def test_a_receipt_without_cosignature(made: Journals) -> None:
    """A checkpoint that nobody has cosigned makes a receipt that says so."""
    (part,) = verify_receipt(made.receipt("SH", "ann", "single", cosigned=False), PAIR["SH"]).parts
    assert part.cosigned_at_s == {}


def test_proofs_are_those_of_rfc_6962(made: Journals, single: bytes) -> None:
    """The proofs in a receipt, written out, are the standard ones of each leaf."""
    (content,) = contents_of(single)
    hashes = [content.hashes[at : at + 32] for at in range(0, len(content.hashes), 32)]
    _, *proofs = [[hashes[index] for index in proof] for proof in content.proofs]
    tiles, size = made.sources["SH"].tiles, made.machines["SH"].frontier.size
    positions = [item.position for item in (content.message, *content.records, *content.evidence)]
    assert proofs == [tiles.inclusion(position, size) for position in positions]


def test_a_receipt_against_an_earlier_checkpoint(made: Journals) -> None:
    """A receipt can be made against any checkpoint whose tree holds all that it shows."""
    plan = made.plan("SH", "ann", "single")
    assert plan.decision is not None
    wanted = wanted_of(made, note=made.note("SH", size=plan.decision + 1))
    (part,) = verify_receipt(make_receipt(made.sources["SH"], wanted), PAIR["SH"]).parts
    assert part.tree_size == plan.decision + 1


def wanted_of(made: Journals, **changes: Any) -> Wanted:
    """Say what the single payment's receipt shows, but for some changes."""
    plan = made.plan("SH", "ann", "single")
    usual: dict[str, Any] = {
        "note": made.note("SH"),
        "message": plan.position - 1,
        "key": messages.public_bytes(key_of("ann")),
        "is_whole": True,
        "records": (plan.position,),
        "evidence": (plan.decision,),
        "claim": b"",
    }
    return Wanted(**(usual | changes))


def test_what_is_not_there_makes_no_receipt(made: Journals) -> None:
    """A message, a record or evidence that does not stand where it is wanted is not found."""
    position = made.plan("SH", "ann", "single").position
    for changes in ({"message": position}, {"records": (position - 1,)}, {"evidence": (position,)}):
        with pytest.raises(NotFound):
            make_receipt(made.sources["SH"], wanted_of(made, **changes))


def test_a_receipt_beyond_its_checkpoint(made: Journals) -> None:
    """A checkpoint whose tree does not hold the decision yet makes no receipt of it."""
    plan = made.plan("SH", "ann", "single")
    with pytest.raises(Exception, match="PROOF_RANGE"):
        make_receipt(made.sources["SH"], wanted_of(made, note=made.note("SH", size=plan.decision)))


def test_a_receipt_that_would_not_verify_is_not_given_out(made: Journals) -> None:
    """A maker that is handed the wrong key finds out before anybody else does."""
    with pytest.raises(IntegrityFailure, match="RECEIPT_INVALID"):
        make_receipt(made.sources["SH"], wanted_of(made, key=bytes(32)))


def test_a_long_body_is_shown_by_its_digest(made: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body above the bound is replaced by its digest also when it is one payment's alone."""
    monkeypatch.setattr(receipts, "BODY_SIZE_MAX", 10)
    (part,) = verify_receipt(make_receipt(made.sources["SH"], wanted_of(made)), PAIR["SH"]).parts
    assert part.body is None


def test_more_hashes_than_can_be_named(made: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt that needs more hashes than one byte counts is our own mistake."""
    monkeypatch.setattr(receipts, "HASH_COUNT_MAX", 3)
    with pytest.raises(InvariantViolation, match="more hashes"):
        make_receipt(made.sources["SH"], wanted_of(made))


# --- every byte -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["single", "batch", "both"])
def test_every_changed_byte_is_refused(name: str, request: pytest.FixtureRequest) -> None:
    """A receipt with any one byte changed, or cut anywhere, or with a byte more, is refused."""
    receipt: bytes = request.getfixturevalue(name)
    random = np.random.default_rng(11)
    for at, bits in enumerate(random.integers(1, 256, len(receipt)).tolist()):
        changed = bytearray(receipt)
        changed[at] ^= bits
        with pytest.raises(IntegrityFailure):
            verify_receipt(bytes(changed), PAIR["SH"])
    for end in range(0, len(receipt), 7):
        refused(receipt[:end], "RECEIPT_MALFORMED")
    refused(receipt + b"\0", "RECEIPT_MALFORMED")


STATED_BY_THE_HEADER = {*range(16, 64), *range(72, 136)}
"""Height, counts, time, and the hashes of other things: what only the node's signature holds."""


@pytest.mark.parametrize("name", ["single", "batch"])
def test_a_lying_node_changes_nothing_but_its_own_word(name: str, request: pytest.FixtureRequest) -> None:
    """With the node's signature made anew over each changed byte, all but the header's own fields is still refused."""
    receipt: bytes = request.getfixturevalue(name)
    (content,) = contents_of(receipt)
    data = msgspec.msgpack.encode(content)
    header, claim = data.index(content.header), data.index(content.claim)
    open_to_the_node = {header + at for at in STATED_BY_THE_HEADER} | {*range(claim, claim + len(content.claim))}
    taken = set()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            verify_receipt(signed(bytes(changed)), PAIR["SH"])
        except IntegrityFailure:
            continue
        taken.add(at)
    assert taken <= open_to_the_node
    assert claim in taken


# --- lies -------------------------------------------------------------------------------------------------------------


def test_a_part_that_its_node_has_not_signed(single: bytes) -> None:
    """A part signed by the other ledger's node is refused."""
    refused(signed(contents_of(single)[0], ledger="HK"), "RECEIPT_INVALID")


def test_another_network(single: bytes) -> None:
    """A receipt is refused under the genesis of another network with the same keys, and if it has the name too."""
    other = msgspec.structs.replace(genesis_of("SH"), network="hugang-other")
    refused(single, "RECEIPT_INVALID", other)
    same_name = msgspec.structs.replace(genesis_of("SH"), created_ns=1)
    assert "another ledger" in refused(single, "RECEIPT_INVALID", same_name)


def test_whether_the_ledger_is_proven_is_said(both: bytes) -> None:
    """That a request was made for its ledger needs that ledger's genesis; a statement is for both ledgers alike."""
    proven = [part.is_addressee_proven for part in verify_receipt(both, PAIR["SH"]).parts]
    assert proven == [True, True]
    payee, payer = verify_receipt(both, PAIR["HK"]).parts
    assert (payee.envelope.topic, payee.is_addressee_proven) == ("statement:list", True)
    assert (payer.envelope.topic, payer.is_addressee_proven) == ("/v1/payments", False)
    proven = [part.is_addressee_proven for part in verify_receipt(both, PAIR["HK"], PAIR["SH"]).parts]
    assert proven == [True, True]


def test_a_ledger_the_genesis_does_not_know(single: bytes) -> None:
    """A part of a ledger without a node in the genesis is refused."""
    refused(lie(single, ledger="XX"), "RECEIPT_INVALID")


def test_a_record_of_another_payment(made: Journals, single: bytes) -> None:
    """A record that was not there, or stands elsewhere, or is another message's, has no proof."""
    (content,) = contents_of(single)
    (record,) = content.records
    richer = np.frombuffer(record.leaf, TRANSFER).copy()
    richer["amount"] += 1
    wrong = [
        msgspec.structs.replace(record, leaf=richer.tobytes()),
        msgspec.structs.replace(record, position=record.position + 1),
    ]
    for item in wrong:
        refused(lie(single, records=(item,)), "RECEIPT_INVALID")
    refused(lie(single, records=(record, record)), "RECEIPT_INVALID")
    with pytest.raises(IntegrityFailure, match="do not stand in their block"):
        make_receipt(made.sources["SH"], wanted_of(made, records=(made.plan("SH", "ben", "exchange").position,)))


def test_records_of_another_message_in_the_block(made: Journals) -> None:
    """A record that another message of the same block derived is refused by its own link to its message."""
    (content,) = contents_of(made.receipt("SH", "cai", "batch"))
    moved = np.frombuffer(content.records[0].leaf, TRANSFER).copy()
    moved["message"] -= 1
    item = msgspec.structs.replace(content.records[0], leaf=moved.tobytes())
    assert "not of the message" in refused(signed(msgspec.structs.replace(content, records=(item,))), "RECEIPT_INVALID")


def test_a_message_by_another_key(single: bytes) -> None:
    """A public key that is not the one the base names is refused, and so is a signature that is not its own."""
    (content,) = contents_of(single)
    other = messages.public_bytes(key_of("ben"))
    refused(lie(single, message=msgspec.structs.replace(content.message, key=other)), "RECEIPT_INVALID")
    refused(lie(single, message=msgspec.structs.replace(content.message, signature=bytes(64))), "RECEIPT_INVALID")


def test_another_body_under_the_same_base(single: bytes) -> None:
    """A body that is not the signed one is refused; a body that is left out is one that is not shown."""
    (content,) = contents_of(single)
    refused(lie(single, message=msgspec.structs.replace(content.message, body=b"{}")), "RECEIPT_INVALID")
    (part,) = verify_receipt(lie(single, message=msgspec.structs.replace(content.message, body=None)), PAIR["SH"]).parts
    assert part.body is None


def test_the_base_of_another_message(single: bytes, batch: bytes) -> None:
    """A true base of another message is not the leaf that stands at this position, though no body is shown."""
    (content,) = contents_of(batch)
    other = contents_of(single)[0].message
    mixed = msgspec.structs.replace(content.message, key=other.key, base=other.base, signature=other.signature)
    refused(lie(batch, message=mixed), "RECEIPT_INVALID")


def test_evidence_by_nobody(made: Journals, single: bytes) -> None:
    """Evidence is a statement by a party of the genesis: a request, a stranger's or a changed statement is refused."""
    (content,) = contents_of(single)
    (item,) = content.evidence
    entry = made.sources["SH"].reader.entry(content.message.position)
    stranger = messages.statement(
        key_of("ann"), network_hash=NETWORK_HASH, ledger="SH", kind="decision", subject="2/1", body=b"body"
    )
    foreign = messages.statement(
        key_of("NODE-SH"), network_hash=bytes(32), ledger="SH", kind="decision", subject="2/1", body=b"body"
    )
    for message in (entry.message, stranger, foreign):
        changed = msgspec.structs.replace(item, message=messages.encode(message))
        assert "no statement" in refused(lie(single, evidence=(changed,)), "RECEIPT_INVALID")
    unjournaled = messages.statement(
        key_of("NODE-SH"), network_hash=NETWORK_HASH, ledger="SH", kind="decision", subject="2/1", body=b"body"
    )
    changed = msgspec.structs.replace(item, message=messages.encode(unjournaled))
    refused(lie(single, evidence=(changed,)), "RECEIPT_INVALID")


def test_a_checkpoint_with_a_strange_line(made: Journals, single: bytes) -> None:
    """A checkpoint that carries a line by somebody else, or its lines out of order, is refused."""
    note = checkpoint.decode_note(made.note("SH"))
    stranger = checkpoint.sign(note.text, name="example.com/x", private_key=key_of("ann"))
    for lines in ((*note.signatures, stranger), note.signatures[::-1]):
        changed = checkpoint.encode_note(Note(note.text, lines))
        assert "none of the nodes" in refused(lie(single, checkpoint=changed), "RECEIPT_INVALID")


def test_a_checkpoint_of_the_other_log(made: Journals, single: bytes) -> None:
    """A checkpoint of the other ledger, or one of another tree, is refused."""
    refused(lie(single, checkpoint=made.note("HK")), "RECEIPT_INVALID")
    text = checkpoint.decode_checkpoint(checkpoint.decode_note(made.note("SH")).text)
    other = checkpoint.Checkpoint(text.origin, text.size, bytes(32))
    forked = cosigned_note(logs.sign_checkpoint(other, key_of("NODE-SH")), "SH")
    refused(lie(single, checkpoint=forked), "RECEIPT_INVALID")


def test_a_header_of_another_block(made: Journals, single: bytes) -> None:
    """A header of another block, another ledger or another tree is refused."""
    (content,) = contents_of(single)
    height = journal.decode_header(content.header).height
    refused(lie(single, header=made.stores["SH"].header(height + 1)), "RECEIPT_INVALID")
    refused(lie(single, header=made.stores["HK"].header(height)), "RECEIPT_INVALID")
    forged = content.header[:136] + bytes(32)
    refused(lie(single, header=forged), "RECEIPT_INVALID")


# --- the form ---------------------------------------------------------------------------------------------------------


def test_what_is_no_receipt(single: bytes) -> None:
    """Other bytes, other shapes, another format, and too much of anything are refused as malformed."""
    document = msgspec.msgpack.decode(single)
    (content,) = contents_of(single)
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(content))
    for data in (
        b"",
        b"\xc1",
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([FORMAT, []]),
        msgspec.msgpack.encode(["hugang-receipt/0", document[1]]),
        msgspec.msgpack.encode([*document, None]),
        msgspec.msgpack.encode([FORMAT, document[1] * 2]),
        msgspec.msgpack.encode([FORMAT, document[1] * 3]),
        signed(msgspec.msgpack.encode([*fields, 1])),
        signed(msgspec.msgpack.encode(fields[:-1])),
        signed(b"\xff"),
        bytes(2**16 + 1),
    ):
        refused(data, "RECEIPT_MALFORMED")


def test_other_spellings_are_refused(single: bytes) -> None:
    """A number or a byte string in a longer form than needed says the same and is refused."""
    assert single[:2] == b"\x92\xb0"
    for other in (b"\xdc\x00\x02" + single[1:], single[:1] + b"\xd9\x10" + single[2:]):
        refused(other, "RECEIPT_MALFORMED")
    data = msgspec.msgpack.encode(contents_of(single)[0])
    assert data[:4] == b"\x99\xa2SH"
    refused(signed(data[:1] + b"\xd9\x02" + data[2:]), "RECEIPT_MALFORMED")


def test_there_is_one_way_to_share_hashes(single: bytes) -> None:
    """A hash that stands twice, is not used, comes out of order or is cut, and an index beyond the end, are refused."""
    (content,) = contents_of(single)
    hashes, proofs = content.hashes, content.proofs
    swapped = bytes.maketrans(b"\0\1", b"\1\0")
    for changes in (
        {"hashes": hashes + bytes(32)},
        {"hashes": hashes + hashes[:32]},
        {"hashes": hashes[:-1]},
        {
            "hashes": hashes[32:64] + hashes[:32] + hashes[64:],
            "proofs": tuple(row.translate(swapped) for row in proofs),
        },
        {"proofs": proofs[:-1]},
        {"proofs": (*proofs, b"")},
        {"proofs": (*proofs[:-1], proofs[-1][:-1] + b"\xff")},
        {"proofs": ()},
    ):
        refused(lie(single, **changes), "RECEIPT_MALFORMED")


def test_joining_needs_two_ledgers(single: bytes, both: bytes) -> None:
    """Two receipts of one ledger, a receipt of both with another, and no receipt at all cannot be joined."""
    for other in (single, both, b"x"):
        with pytest.raises(IntegrityFailure, match="RECEIPT_MALFORMED"):
            join(single, other)


def test_joining_knows_no_order(made: Journals, single: bytes, both: bytes) -> None:
    """Joined in either order, two receipts give the same bytes."""
    assert join(made.receipt("HK", "dan", "single"), single) == both


def test_the_parts_stand_in_order(both: bytes) -> None:
    """A receipt whose parts stand in descending order of their ledgers is refused."""
    document = msgspec.msgpack.decode(both)
    refused(msgspec.msgpack.encode([FORMAT, document[1][::-1]]), "RECEIPT_MALFORMED")


# --- size -------------------------------------------------------------------------------------------------------------


def test_a_receipt_is_small_in_a_large_journal(single: bytes) -> None:
    """In a journal of 100 million leaves, wherever it stands, a settled payment's receipt stays below 8 KiB."""
    (content,) = contents_of(single)
    small = len(single) - len(content.hashes) - sum(map(len, content.proofs))
    random, sizes = np.random.default_rng(5), []
    for position in [*random.integers(0, HUGE - 100_000, 300).tolist(), 0, 2**26 - 1, 2**26]:
        decision = position + int(random.integers(1, 100_000))
        block_end = min(position + int(random.integers(2, 65_536)), HUGE)
        proofs = [merkle.consistency_ranges(block_end, HUGE)]
        proofs += [merkle.inclusion_ranges(at, HUGE) for at in (position, position + 1, decision)]
        distinct = {ranges for proof in proofs for ranges in proof}
        assert len(distinct) <= receipts.HASH_COUNT_MAX
        sizes.append(small + 32 * len(distinct) + sum(map(len, proofs)))
    assert max(sizes) < SIZE_MAX, sizes


# --- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(VECTORS["receipts"]))
def test_golden_receipts(name: str) -> None:
    """The receipts of the vectors verify under either genesis, give what the vectors say, and are written the same."""
    case = VECTORS["receipts"][name]
    receipt = bytes.fromhex(case["receipt"])
    for genesis in PAIR.values():
        assert described(verify_receipt(receipt, genesis)) == case["shows"]
    parts = [[msgspec.msgpack.encode(content), part.signature] for content, part in receipts._read(receipt)]
    assert msgspec.msgpack.encode([FORMAT, parts]) == receipt


def test_the_page_prints_a_golden_receipt() -> None:
    """docs/proofs.md prints the refused payment's golden receipt part by part."""
    page = (Path(__file__).parents[2] / "docs" / "proofs.md").read_text("utf-8")
    receipt = bytes.fromhex(VECTORS["receipts"]["at once, refused"]["receipt"])
    ((content, part),) = receipts._read(receipt)
    plain = page.replace("\n", "")
    assert content.checkpoint.decode() in page
    assert content.message.base.decode() in page
    assert content.message.body is not None
    assert content.message.body.decode() in page
    pieces = [content.header, content.message.key, content.message.signature, content.records[0].leaf, content.claim]
    pieces += [content.hashes[at : at + 32] for at in range(0, len(content.hashes), 32)]
    pieces += [*content.proofs, part.signature]
    assert all(piece.hex() in plain for piece in pieces)
    assert f"{len(receipt):,} bytes" in page


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_refused_receipts(case: dict[str, str]) -> None:
    """Each receipt of the vectors that must be refused is refused with its code."""
    refused(bytes.fromhex(case["receipt"]), case["code"])


def described(view: ReceiptView) -> list[dict[str, Any]]:
    """Write down what a receipt shows, as the vectors have it."""
    return [
        {
            "ledger": part.ledger,
            "position": part.position,
            "topic": part.envelope.topic,
            "key": part.key.hex(),
            "body": None if part.body is None else part.body.decode(),
            "leaves": [record_leaf(record).hex() for record in part.records],
            "record_positions": list(part.record_positions),
            "evidence": [item.envelope.idempotency_key for item in part.evidence],
            "block_hash": part.block_hash.hex(),
            "tree_size": part.tree_size,
            "tree_root": part.tree_root.hex(),
            "cosigned_at_s": dict(part.cosigned_at_s),
        }
        for part in view.parts
    ]


def test_the_key_that_signs_receipts_signs_nothing_else_like_it(single: bytes) -> None:
    """What a node signs for a receipt begins with the format's name, which no base, note or block does."""
    content, part = receipts._read(single)[0]
    message = f"{FORMAT}\n".encode() + hashlib.sha256(part.content).digest()
    assert signatures.is_valid(bytes.fromhex(PAIR["SH"].node("SH").public_key), part.signature, message)
    assert content.ledger == "SH"
