"""Signed notes, checkpoints and cosignatures: published and observed ones, ours, and all that must be refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import canonical, checkpoint
from ledger.checkpoint import Algorithm, Checkpoint, Note, NoteSignature, VerifierKey
from ledger.errors import LedgerError, MalformedInput, Unauthenticated

TESTS = Path(__file__).parents[1]
VECTORS = json.loads((TESTS / "vectors" / "checkpoints.json").read_text("utf-8"))
PUBLISHED, OBSERVED, OURS = VECTORS["published"], VECTORS["observed"], VECTORS["ours"]

LOG = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(OURS["log_seed"]))
COSIGNER = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(OURS["cosigner_seed"]))
LOG_KEY = checkpoint.decode_verifier_key(OURS["log_key"])
COSIGNER_KEY = checkpoint.decode_verifier_key(OURS["cosigner_key"])
NOTE = OURS["note"].encode()
GOLDEN = Checkpoint(OURS["origin"], OURS["size"], bytes.fromhex(OURS["root"]))

words = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Z"], blacklist_characters="+"), min_size=1, max_size=20
)
lines = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=40)
checkpoints = st.builds(
    Checkpoint,
    origin=lines,
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    extensions=st.lists(lines, max_size=8).map(tuple),
)
notes = st.builds(
    Note,
    text=st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20), min_size=1, max_size=5).map(
        lambda parts: "".join(f"{part}\n" for part in parts).encode()
    ),
    signatures=st.lists(
        st.builds(
            NoteSignature,
            name=words,
            key_id=st.binary(min_size=4, max_size=4),
            value=st.binary(min_size=1, max_size=90),
        ),
        min_size=1,
        max_size=16,
        unique_by=lambda line: (line.name, line.key_id),
    ).map(tuple),
)


def why(case: dict[str, str]) -> str:
    """Name a refused vector by its reason."""
    return case["why"]


def with_signature(note: Note, signature: NoteSignature) -> Note:
    """Add a signature line."""
    return dataclasses.replace(note, signatures=(*note.signatures, signature))


def replaced(note: Note, at: int, value: bytes) -> Note:
    """Put another value on one signature line."""
    signatures = list(note.signatures)
    signatures[at] = dataclasses.replace(signatures[at], value=value)
    return dataclasses.replace(note, signatures=tuple(signatures))


def test_the_worked_example_of_signed_notes() -> None:
    """The published verifier key has key id 530d903a and verifies the published note."""
    key = checkpoint.decode_verifier_key(PUBLISHED["signed_note"]["verifier_key"])
    assert key.key_id.hex() == "530d903a"
    assert key.algorithm is Algorithm.ED25519
    assert checkpoint.encode_verifier_key(key) == PUBLISHED["signed_note"]["verifier_key"]
    data = PUBLISHED["signed_note"]["note"].encode()
    note = checkpoint.decode_note(data)
    checkpoint.verify_signature(note, key)
    assert checkpoint.encode_note(note) == data


@pytest.mark.parametrize("text", PUBLISHED["unkeyed_notes"])
def test_published_notes_are_read(text: str) -> None:
    """Published notes whose keys are not known decode and encode to the same bytes."""
    assert checkpoint.encode_note(checkpoint.decode_note(text.encode())) == text.encode()


def test_the_published_cosignature_names_its_time() -> None:
    """The example cosignature holds eight bytes of big-endian time before 64 bytes of signature."""
    line = checkpoint.decode_note(PUBLISHED["unkeyed_notes"][1].encode()).signatures[1]
    assert len(line.value) == 72
    assert int.from_bytes(line.value[:8], "big") == PUBLISHED["cosigned_at_s"]


def test_a_checkpoint_from_the_wild() -> None:
    """A public log's checkpoint opens with its key and four witnesses' keys, its line of an unknown type ignored."""
    log_key = checkpoint.decode_verifier_key(OBSERVED["log_key"])
    cosigner_keys = [checkpoint.decode_verifier_key(text) for text in OBSERVED["cosigner_keys"]]
    opened = checkpoint.open_checkpoint(OBSERVED["note"].encode(), log_key, cosigner_keys, cosigner_count_min=4)
    assert opened.checkpoint.size == 1432088532
    assert set(opened.cosigned_at_s) == {key.name for key in cosigner_keys}
    assert set(opened.cosigned_at_s.values()) == {OBSERVED["cosigned_at_s"]}


def test_our_checkpoint_is_golden() -> None:
    """Signing and cosigning the golden checkpoint gives the golden bytes."""
    text = checkpoint.encode_checkpoint(GOLDEN)
    signed = checkpoint.sign(text, name=OURS["origin"], private_key=LOG)
    cosigned = checkpoint.cosign(text, name=OURS["cosigner_name"], private_key=COSIGNER, time_s=OURS["cosigned_at_s"])
    assert checkpoint.encode_note(Note(text, (signed, cosigned))) == NOTE


def test_our_verifier_keys_are_golden() -> None:
    """The golden keys belong to the golden seeds, and the same bytes have different ids in different roles."""
    assert LOG_KEY.public_key == LOG.public_key().public_bytes_raw()
    assert COSIGNER_KEY.public_key == COSIGNER.public_key().public_bytes_raw()
    assert checkpoint.encode_verifier_key(LOG_KEY) == OURS["log_key"]
    assert checkpoint.encode_verifier_key(COSIGNER_KEY) == OURS["cosigner_key"]
    assert dataclasses.replace(LOG_KEY, algorithm=Algorithm.COSIGNATURE_V1).key_id != LOG_KEY.key_id


def test_our_checkpoint_opens() -> None:
    """The golden note opens with both keys and gives checkpoint and time."""
    opened = checkpoint.open_checkpoint(NOTE, LOG_KEY, [COSIGNER_KEY], cosigner_count_min=1)
    assert opened.checkpoint == GOLDEN
    assert opened.note == checkpoint.decode_note(NOTE)
    assert dict(opened.cosigned_at_s) == {OURS["cosigner_name"]: OURS["cosigned_at_s"]}


def test_a_checkpoint_can_be_opened_without_cosigners() -> None:
    """Who trusts no cosigner opens the same note by the log's key alone."""
    assert dict(checkpoint.open_checkpoint(NOTE, LOG_KEY).cosigned_at_s) == {}


@pytest.mark.parametrize("case", VECTORS["refused_checkpoints"], ids=why)
def test_refused_checkpoints(case: dict[str, str]) -> None:
    """Every text on the list is refused as a checkpoint."""
    with pytest.raises(MalformedInput) as caught:
        checkpoint.decode_checkpoint(case["text"].encode())
    assert caught.value.code in {"CHECKPOINT_MALFORMED", "NOTE_MALFORMED"}


@pytest.mark.parametrize("case", VECTORS["refused_notes"], ids=why)
def test_refused_notes(case: dict[str, str]) -> None:
    """Every text on the list is refused as a note."""
    with pytest.raises(MalformedInput) as caught:
        checkpoint.decode_note(case["text"].encode())
    assert caught.value.code == "NOTE_MALFORMED"


@pytest.mark.parametrize("case", VECTORS["refused_notes_in_hex"], ids=why)
def test_refused_bytes(case: dict[str, str]) -> None:
    """Bytes that are not strict UTF-8 are refused as a note."""
    with pytest.raises(MalformedInput) as caught:
        checkpoint.decode_note(bytes.fromhex(case["hex"]))
    assert caught.value.code == "NOTE_MALFORMED"


@pytest.mark.parametrize("case", VECTORS["refused_verifier_keys"], ids=why)
def test_refused_verifier_keys(case: dict[str, str]) -> None:
    """Every text on the list is refused as a verifier key."""
    with pytest.raises(MalformedInput) as caught:
        checkpoint.decode_verifier_key(case["text"])
    assert caught.value.code == "VERIFIER_KEY_MALFORMED"


def test_a_note_is_bounded() -> None:
    """A note beyond the size limit is refused, one with sixteen of the largest signatures is read."""
    line = f"— {{}} {canonical.encode_base64(bytes(4 + 8 + 2420))}\n"
    largest = "text\n\n" + "".join(line.format(f"witness{number}.example") for number in range(16))
    assert len(checkpoint.decode_note(largest.encode()).signatures) == 16
    with pytest.raises(MalformedInput):
        checkpoint.decode_note(b"x" * checkpoint.NOTE_SIZE_MAX + b"\n\n")


@given(value=checkpoints)
def test_a_checkpoint_survives_its_text(value: Checkpoint) -> None:
    """What is encoded decodes to the same checkpoint."""
    assert checkpoint.decode_checkpoint(checkpoint.encode_checkpoint(value)) == value


@given(value=notes)
def test_a_note_survives_its_bytes(value: Note) -> None:
    """What is encoded decodes to the same note, blank lines in its text included."""
    assert checkpoint.decode_note(checkpoint.encode_note(value)) == value


@given(data=st.data(), source=st.sampled_from([NOTE, OBSERVED["note"].encode()]))
def test_decoding_is_canonical(data: st.DataObject, source: bytes) -> None:
    """Whatever a changed note decodes to, encoding gives the very same bytes again, or the note was refused."""
    changed = bytearray(source)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        note = checkpoint.decode_note(bytes(changed))
    except MalformedInput:
        return
    assert checkpoint.encode_note(note) == bytes(changed)


@given(data=st.data())
def test_no_changed_text_opens(data: st.DataObject) -> None:
    """A checkpoint with any byte of its text replaced never opens, and fails with nothing but a ledger error."""
    size = NOTE.index(b"\n\n") + 1
    at = data.draw(st.integers(0, size - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != NOTE[at]))
    changed = NOTE[:at] + bytes([byte]) + NOTE[at + 1 :]
    with pytest.raises(LedgerError):
        checkpoint.open_checkpoint(changed, LOG_KEY, [COSIGNER_KEY], cosigner_count_min=1)


@given(
    garbage=st.one_of(st.binary(max_size=200), st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
)
def test_garbage_is_a_ledger_error(garbage: bytes) -> None:
    """Arbitrary bytes never open, and fail with nothing but a ledger error."""
    with pytest.raises(LedgerError):
        checkpoint.open_checkpoint(garbage, LOG_KEY)


@pytest.mark.parametrize("bit", [0, 100, 511])
def test_a_bad_log_signature_spoils_the_note(bit: int) -> None:
    """One wrong bit in the log's signature, and the checkpoint does not open."""
    note = checkpoint.decode_note(NOTE)
    value = (int.from_bytes(note.signatures[0].value, "big") ^ 1 << bit).to_bytes(64, "big")
    with pytest.raises(Unauthenticated) as caught:
        checkpoint.open_checkpoint(checkpoint.encode_note(replaced(note, 0, value)), LOG_KEY)
    assert caught.value.code == "NOTE_SIGNATURE_INVALID"


@pytest.mark.parametrize("bit", [0, 100, 511, 512, 575])
def test_a_bad_cosignature_spoils_the_note(bit: int) -> None:
    """One wrong bit in a trusted cosigner's signature or time, and the note does not open even if none is needed."""
    note = checkpoint.decode_note(NOTE)
    value = (int.from_bytes(note.signatures[1].value, "big") ^ 1 << bit).to_bytes(72, "big")
    with pytest.raises(Unauthenticated) as caught:
        checkpoint.open_checkpoint(checkpoint.encode_note(replaced(note, 1, value)), LOG_KEY, [COSIGNER_KEY])
    assert caught.value.code == "NOTE_SIGNATURE_INVALID"


@pytest.mark.parametrize("size", [8, 64, 71, 73])
def test_a_cosignature_has_its_size(size: int) -> None:
    """A cosignature of another size than time and signature does not hold."""
    note = replaced(checkpoint.decode_note(NOTE), 1, bytes(size))
    with pytest.raises(Unauthenticated) as caught:
        checkpoint.verify_cosignature(note, COSIGNER_KEY)
    assert caught.value.code == "NOTE_SIGNATURE_INVALID"


def test_a_cosigned_time_is_in_range() -> None:
    """A time of 2^63 or later is not accepted, even with a signature over it."""
    text, time_s = checkpoint.encode_checkpoint(GOLDEN), 2**63
    value = time_s.to_bytes(8, "big") + COSIGNER.sign(f"cosignature/v1\ntime {time_s}\n".encode() + text)
    note = Note(text, (NoteSignature(COSIGNER_KEY.name, COSIGNER_KEY.key_id, value),))
    with pytest.raises(Unauthenticated):
        checkpoint.verify_cosignature(note, COSIGNER_KEY)
    for beyond in (-1, time_s):
        with pytest.raises(MalformedInput):
            checkpoint.cosign(text, name="hugang.example/hk", private_key=COSIGNER, time_s=beyond)


@pytest.mark.parametrize("time_s", [0, 1, 2**63 - 1])
def test_a_cosigned_time_is_what_was_signed(time_s: int) -> None:
    """Verification gives back the time that was cosigned."""
    text = checkpoint.encode_checkpoint(GOLDEN)
    line = checkpoint.cosign(text, name=COSIGNER_KEY.name, private_key=COSIGNER, time_s=time_s)
    assert checkpoint.verify_cosignature(Note(text, (line,)), COSIGNER_KEY) == time_s


def test_a_missing_log_signature() -> None:
    """A note that only others have signed does not open."""
    note = checkpoint.decode_note(NOTE)
    data = checkpoint.encode_note(dataclasses.replace(note, signatures=note.signatures[1:]))
    with pytest.raises(Unauthenticated) as caught:
        checkpoint.open_checkpoint(data, LOG_KEY, [COSIGNER_KEY])
    assert caught.value.code == "NOTE_SIGNATURE_MISSING"


def test_a_missing_cosignature() -> None:
    """A note with fewer trusted cosignatures than asked for does not open; asking twice for one key counts it once."""
    stranger = VerifierKey("other.example", Algorithm.COSIGNATURE_V1, LOG_KEY.public_key)
    for keys, needed in (([stranger], 1), ([COSIGNER_KEY, COSIGNER_KEY], 2), ([], 1)):
        with pytest.raises(Unauthenticated) as caught:
            checkpoint.open_checkpoint(NOTE, LOG_KEY, keys, cosigner_count_min=needed)
        assert caught.value.code == "COSIGNATURE_MISSING"


def test_the_origin_is_the_log() -> None:
    """A checkpoint signed by the log's key but named otherwise does not open."""
    text = checkpoint.encode_checkpoint(dataclasses.replace(GOLDEN, origin="hugang.example/hk"))
    note = Note(text, (checkpoint.sign(text, name="hugang.example/sh", private_key=LOG),))
    with pytest.raises(Unauthenticated) as caught:
        checkpoint.open_checkpoint(checkpoint.encode_note(note), LOG_KEY)
    assert caught.value.code == "CHECKPOINT_ORIGIN_MISMATCH"


def test_unknown_signatures_are_passed_over() -> None:
    """A line that shares the name or the key id of a trusted key, but not both, is ignored."""
    note = checkpoint.decode_note(NOTE)
    same_name = NoteSignature(LOG_KEY.name, b"\0\0\0\0", b"anything")
    same_id = NoteSignature("other.example", LOG_KEY.key_id, b"anything")
    data = checkpoint.encode_note(with_signature(with_signature(note, same_name), same_id))
    assert checkpoint.open_checkpoint(data, LOG_KEY, [COSIGNER_KEY]).checkpoint == GOLDEN


def test_roles_do_not_mix() -> None:
    """A key of one type never passes for the other, even if its line stands in the note."""
    note = checkpoint.decode_note(NOTE)
    with pytest.raises(Unauthenticated) as caught:
        checkpoint.verify_cosignature(note, LOG_KEY)
    assert caught.value.code == "NOTE_SIGNATURE_MISSING"
    with pytest.raises(Unauthenticated):
        checkpoint.verify_signature(note, COSIGNER_KEY)


def test_a_cosigner_never_signs_as_a_log_by_accident() -> None:
    """A text that begins like a cosigned message is not signed, so one signature cannot pass for the other."""
    text = b"cosignature/v1\ntime 1\n" + checkpoint.encode_checkpoint(GOLDEN)
    with pytest.raises(MalformedInput):
        checkpoint.sign(text, name="hugang.example/sh", private_key=LOG)


def test_only_checkpoints_are_cosigned() -> None:
    """A text that is no checkpoint is not cosigned."""
    with pytest.raises(MalformedInput):
        checkpoint.cosign(b"two\nlines\n", name="hugang.example/hk", private_key=COSIGNER, time_s=1)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a\x07b", "n" * 256, "\ud800"])
def test_names_that_no_key_may_have(name: str) -> None:
    """Empty, spaced, signed, controlled, overlong and unpaired names are refused for keys and signatures."""
    with pytest.raises(MalformedInput):
        VerifierKey(name, Algorithm.ED25519, bytes(32))
    note = Note(b"text\n", (NoteSignature(name, bytes(4), b"x"),))
    with pytest.raises(MalformedInput):
        checkpoint.encode_note(note)


@pytest.mark.parametrize(
    "note",
    [
        Note(b"no newline", (NoteSignature("n", bytes(4), b"x"),)),
        Note(b"text\n", ()),
        Note(b"text\n", (NoteSignature("n", bytes(3), b"x"),)),
        Note(b"text\n", (NoteSignature("n", bytes(3), b"xx"),)),
        Note(b"text\n", (NoteSignature("n", bytes(4), b""),)),
        Note(b"text\n", (NoteSignature("n", bytes(4), b"x"),) * 2),
    ],
)
def test_notes_that_cannot_be_written(note: Note) -> None:
    """A note whose parts would decode to something else is refused when it is written."""
    with pytest.raises(MalformedInput):
        checkpoint.encode_note(note)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": ""},
        {"origin": "two\nlines"},
        {"origin": "\ud800"},
        {"size": -1},
        {"size": 2**63},
        {"root": bytes(31)},
        {"extensions": ("",)},
        {"extensions": ("one\ntwo",)},
        {"extensions": ("more",) * 9},
    ],
)
def test_checkpoints_that_cannot_be_written(change: dict[str, Any]) -> None:
    """A checkpoint whose parts would decode to something else is refused when it is written."""
    with pytest.raises(MalformedInput):
        checkpoint.encode_checkpoint(dataclasses.replace(GOLDEN, **change))


def test_extension_lines_are_signed() -> None:
    """Extension lines come back as they were, and changing one breaks the signatures."""
    extended = dataclasses.replace(GOLDEN, extensions=("day 2025-06-18",))
    text = checkpoint.encode_checkpoint(extended)
    line = checkpoint.sign(text, name=LOG_KEY.name, private_key=LOG)
    data = checkpoint.encode_note(Note(text, (line,)))
    assert checkpoint.open_checkpoint(data, LOG_KEY).checkpoint == extended
    with pytest.raises(Unauthenticated):
        checkpoint.open_checkpoint(data.replace(b"06-18", b"06-19"), LOG_KEY)


@given(data=st.binary(max_size=40))
def test_base64_has_one_spelling(data: bytes) -> None:
    """Each byte string has one base64 text: any other text that a generous decoder takes for it is refused."""
    text = canonical.encode_base64(data)
    assert canonical.decode_base64(text) == data
    for other in (text + "=", text + "\n", " " + text, text[:-1], text.replace("=", "") + "é"):
        decoded = canonical.decode_base64(other)
        assert decoded is None or canonical.encode_base64(decoded) == other


@given(number=st.integers(0, 2**64))
def test_decimals_have_one_spelling(number: int) -> None:
    """Each number has one decimal text."""
    assert canonical.decode_decimal(str(number)) == number
    for other in (f"0{number}", f"+{number}", f"-{number}", f" {number}", f"{number}\n", f"{number}_0", f"{number}.0"):
        assert canonical.decode_decimal(other) is None


def test_the_page_shows_the_golden_checkpoint() -> None:
    """docs/proofs.md prints the golden note, its keys and its seeds as they are tested here."""
    page = (TESTS.parent / "docs" / "proofs.md").read_text("utf-8")
    for part in (OURS["note"], OURS["log_key"], OURS["cosigner_key"], OURS["log_seed"], OURS["cosigner_seed"]):
        assert part in page
    cosigned = f"cosignature/v1\ntime {OURS['cosigned_at_s']}\n" + checkpoint.encode_checkpoint(GOLDEN).decode()
    assert cosigned in page
