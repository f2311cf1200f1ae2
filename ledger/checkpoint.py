"""Checkpoints: a tree's size and root as a C2SP signed note, and the other node's cosignature under it.

Three published formats and nothing beside them: signed notes (c2sp.org/signed-note), checkpoints
(c2sp.org/tlog-checkpoint) and Ed25519 cosignatures (c2sp.org/tlog-cosignature, ``cosignature/v1``). A note is text, a
blank line, and a line for each signature::

    hugang.example/sh
    4711
    <root hash in base64>

    — hugang.example/sh <key id and signature in base64>
    — hugang.example/hk <key id, time and signature in base64>

Decoding is strict: for each note there is one spelling. Reading says nothing about truth: only ``open_checkpoint``
and the ``verify_`` functions do, against keys the caller already trusts.
"""

from __future__ import annotations

import enum
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import signatures
from ledger.canonical import decode_base64, decode_decimal, encode_base64
from ledger.errors import LedgerError, MalformedInput, Unauthenticated
from ledger.merkle import HASH_SIZE, SIZE_MAX

__all__ = [
    "NOTE_SIZE_MAX",
    "SIGNATURE_COUNT_MAX",
    "Algorithm",
    "Checkpoint",
    "Note",
    "NoteSignature",
    "OpenedCheckpoint",
    "VerifierKey",
    "cosign",
    "decode_checkpoint",
    "decode_note",
    "decode_verifier_key",
    "encode_checkpoint",
    "encode_note",
    "encode_verifier_key",
    "open_checkpoint",
    "sign",
    "verify_cosignature",
    "verify_signature",
]

NOTE_SIZE_MAX = 128 * 2**10
"""Bytes of a whole note: room for sixteen signatures of the largest assigned type."""
TEXT_SIZE_MAX = 8 * 2**10
SIGNATURE_COUNT_MAX = 16
"""What every verifier of notes must accept, and more than two nodes and their witnesses need."""
NAME_SIZE_MAX = 255
EXTENSION_COUNT_MAX = 8
TIME_S_MAX = 2**63 - 1

KEY_ID_SIZE = 4
PUBLIC_KEY_SIZE = 32
_SIGNATURE_SIZE = 64
_TIME = struct.Struct(">Q")
_DASH = "—"  # U+2014 begins every signature line
_COSIGNATURE_HEADER = "cosignature/v1\n"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID_TEXT = re.compile(r"[0-9a-f]{8}")


class Algorithm(enum.IntEnum):
    """The signature types we make and check; the byte that tells them apart in key ids and verifier keys."""

    ED25519 = 0x01
    """Over the note's text."""
    COSIGNATURE_V1 = 0x04
    """Over a header, a time and the checkpoint's text."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """Whose signature counts: a name, what it signs with, and the raw 32 bytes of the public key.

    Raises:
        MalformedInput: the name holds a space or a plus sign, or the key has another size (``VERIFIER_KEY_MALFORMED``).
    """

    name: str
    algorithm: Algorithm
    public_key: bytes

    def __post_init__(self) -> None:
        if not _is_name(self.name) or len(self.public_key) != PUBLIC_KEY_SIZE:
            raise MalformedInput("VERIFIER_KEY_MALFORMED", "The verifier key's name or size is not of its form.")

    @property
    def key_id(self) -> bytes:
        """Four bytes that find the key, and prove nothing."""
        head = f"{self.name}\n".encode()
        return hashlib.sha256(head + bytes([self.algorithm]) + self.public_key).digest()[:KEY_ID_SIZE]


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the signer's name, the key id, and what follows it (a time too, in a cosignature)."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a newline, and 1 to ``SIGNATURE_COUNT_MAX`` signatures by different keys."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def signature_by(self, key: VerifierKey) -> NoteSignature | None:
        """Find the line that claims to be by this key."""
        wanted = (key.name, key.key_id)
        return next((line for line in self.signatures if (line.name, line.key_id) == wanted), None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its name, the number of leaves, the root over them, and opaque lines that are only signed."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint whose log's signature holds.

    ``cosigned_at_s`` gives, for each trusted cosigner whose signature stands under it, the Unix time it names.
    """

    checkpoint: Checkpoint
    note: Note
    cosigned_at_s: Mapping[str, int]


def encode_verifier_key(key: VerifierKey) -> str:
    """Write a verifier key: name, key id in hex, then type byte and key in base64, joined by plus signs."""
    return f"{key.name}+{key.key_id.hex()}+{encode_base64(bytes([key.algorithm]) + key.public_key)}"


def decode_verifier_key(text: str) -> VerifierKey:
    """Read a verifier key; the inverse of ``encode_verifier_key``.

    Raises:
        MalformedInput: not of the form, another type than ours, or a key id that is not the key's
            (``VERIFIER_KEY_MALFORMED``).
    """
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = decode_base64(encoded) if len(text) <= 2 * NAME_SIZE_MAX else None
    if data is None or data[:1] not in (b"\x01", b"\x04") or not _KEY_ID_TEXT.fullmatch(key_id):
        raise MalformedInput(
            "VERIFIER_KEY_MALFORMED", "The verifier key is not of its form, or of a type not used here."
        )
    key = VerifierKey(name, Algorithm(data[0]), data[1:])
    if key.key_id.hex() != key_id:
        raise MalformedInput("VERIFIER_KEY_MALFORMED", "The verifier key's id is not that of its name and key.")
    return key


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Write a checkpoint as the text of a note.

    Raises:
        MalformedInput: a part is not of its form (``CHECKPOINT_MALFORMED``).
    """
    lines = (checkpoint.origin, str(checkpoint.size), encode_base64(checkpoint.root), *checkpoint.extensions)
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    if decode_checkpoint(text) != checkpoint:
        raise MalformedInput("CHECKPOINT_MALFORMED", "A line of the checkpoint holds a line break.")
    return text


def decode_checkpoint(text: bytes) -> Checkpoint:
    """Read the text of a note as a checkpoint; the inverse of ``encode_checkpoint``.

    Raises:
        MalformedInput: fewer than three lines, an empty line, a size with sign, separator or leading zero, a root that
            is not 32 bytes in canonical base64, too many extension lines (``CHECKPOINT_MALFORMED``), or no text of a
            note at all (``NOTE_MALFORMED``).
    """
    lines = _note_text(text).split("\n")[:-1]
    if not 3 <= len(lines) <= 3 + EXTENSION_COUNT_MAX or not all(lines):
        raise MalformedInput(
            "CHECKPOINT_MALFORMED", "A checkpoint has three lines, then extensions, none of them empty."
        )
    origin, size_text, root_text, *extensions = lines
    size, root = decode_decimal(size_text), decode_base64(root_text)
    if size is None or size > SIZE_MAX:
        raise MalformedInput("CHECKPOINT_MALFORMED", "The tree size is not a canonical number.", line=2)
    if root is None or len(root) != HASH_SIZE:
        raise MalformedInput("CHECKPOINT_MALFORMED", "The root hash is not 32 bytes in canonical base64.", line=3)
    return Checkpoint(origin, size, root, tuple(extensions))


def encode_note(note: Note) -> bytes:
    """Write a note: text, blank line, signature lines.

    Raises:
        MalformedInput: text, names, number or sizes are not of the form (``NOTE_MALFORMED``).
    """
    lines = [f"{_DASH} {line.name} {encode_base64(line.key_id + line.value)}\n" for line in note.signatures]
    data = note.text + b"\n" + "".join(lines).encode("utf-8", "surrogatepass")
    if decode_note(data) != note:
        raise MalformedInput("NOTE_MALFORMED", "The note's parts run into each other.")
    return data


def decode_note(data: bytes) -> Note:
    """Read a note; the inverse of ``encode_note``.

    Raises:
        MalformedInput: not UTF-8, control characters, no signature, a line that is no signature, base64 that is not
            canonical, one key twice, or too much of anything (``NOTE_MALFORMED``).
    """
    if len(data) > NOTE_SIZE_MAX:
        raise MalformedInput("NOTE_MALFORMED", "The note is too long.", limit=NOTE_SIZE_MAX)
    blank = data.rfind(b"\n\n")
    if blank < 0 or not data.endswith(b"\n"):
        raise MalformedInput("NOTE_MALFORMED", "A note is text, a blank line, and lines of signatures.")
    text, block = data[: blank + 1], _decoded(data[blank + 2 :])
    _note_text(text)
    lines = block.split("\n")[:-1]
    if not 1 <= len(lines) <= SIGNATURE_COUNT_MAX:
        raise MalformedInput("NOTE_MALFORMED", "A note has 1 to 16 signatures.", given=len(lines))
    found = tuple(_read_signature(line) for line in lines)
    if len({(line.name, line.key_id) for line in found}) != len(found):
        raise MalformedInput("NOTE_MALFORMED", "Two signatures name the same key.")
    return Note(text, found)


def sign(text: bytes, *, name: str, private_key: Ed25519PrivateKey) -> NoteSignature:
    """Sign the text of a note under a name, with type ``ED25519``.

    Raises:
        MalformedInput: the text or the name is not of its form, or the text could be taken for what a cosigner signs.
    """
    if _note_text(text).startswith(_COSIGNATURE_HEADER):
        raise MalformedInput("NOTE_MALFORMED", "A text that begins like a cosigned message is not signed.")
    key = VerifierKey(name, Algorithm.ED25519, private_key.public_key().public_bytes_raw())
    return NoteSignature(name, key.key_id, private_key.sign(text))


def cosign(text: bytes, *, name: str, private_key: Ed25519PrivateKey, time_s: int) -> NoteSignature:
    """State that at a time the log's largest consistent tree was the one of this checkpoint.

    Whoever calls has checked the consistency proof and stored the size before (I5).

    Args:
        text: the checkpoint as text of a note.
        name: the cosigner's name.
        private_key: the cosigner's key.
        time_s: Unix seconds, 0 to ``TIME_S_MAX``.

    Raises:
        MalformedInput: the text is no checkpoint, or name or time are not of their form.
    """
    decode_checkpoint(text)
    if not 0 <= time_s <= TIME_S_MAX:
        raise MalformedInput("NOTE_MALFORMED", "The time of a cosignature is out of range.", time_s=time_s)
    key = VerifierKey(name, Algorithm.COSIGNATURE_V1, private_key.public_key().public_bytes_raw())
    value = _TIME.pack(time_s) + private_key.sign(_cosigned_message(text, time_s))
    return NoteSignature(name, key.key_id, value)


def verify_signature(note: Note, key: VerifierKey) -> None:
    """Check that a key of type ``ED25519`` has signed a note.

    Raises:
        Unauthenticated: it has not (``NOTE_SIGNATURE_MISSING``), or its signature does not hold
            (``NOTE_SIGNATURE_INVALID``).
    """
    value = _value_by(note, key, Algorithm.ED25519)
    if not signatures.is_valid(key.public_key, value, note.text):
        raise _invalid(key)


def verify_cosignature(note: Note, key: VerifierKey) -> int:
    """Check that a key of type ``COSIGNATURE_V1`` has cosigned a checkpoint.

    Returns:
        The time the cosigner named, Unix seconds.

    Raises:
        Unauthenticated: it has not (``NOTE_SIGNATURE_MISSING``), or its signature does not hold
            (``NOTE_SIGNATURE_INVALID``).
    """
    value = _value_by(note, key, Algorithm.COSIGNATURE_V1)
    if len(value) != _TIME.size + _SIGNATURE_SIZE:
        raise _invalid(key)
    (time_s,) = _TIME.unpack_from(value)
    message = _cosigned_message(note.text, time_s)
    if time_s > TIME_S_MAX or not signatures.is_valid(key.public_key, value[_TIME.size :], message):
        raise _invalid(key)
    return int(time_s)


def open_checkpoint(
    data: bytes, log_key: VerifierKey, cosigner_keys: Sequence[VerifierKey] = (), *, cosigner_count_min: int = 0
) -> OpenedCheckpoint:
    """Read a signed checkpoint and check it against trusted keys.

    Lines by unknown keys are passed over. A line by a trusted key must hold: one that does not spoils the whole note.

    Args:
        data: the note.
        log_key: the log's key of type ``ED25519``; its name is the origin the checkpoint must have.
        cosigner_keys: trusted keys of type ``COSIGNATURE_V1``.
        cosigner_count_min: how many of them must have cosigned.

    Raises:
        MalformedInput: not a checkpoint.
        Unauthenticated: the log's signature or a cosignature is missing or does not hold, or the checkpoint is of
            another log (``CHECKPOINT_ORIGIN_MISMATCH``, ``COSIGNATURE_MISSING``, those of the ``verify_`` functions).
    """
    note = decode_note(data)
    checkpoint = decode_checkpoint(note.text)
    if checkpoint.origin != log_key.name:
        raise Unauthenticated("CHECKPOINT_ORIGIN_MISMATCH", "The checkpoint is of another log.", expected=log_key.name)
    verify_signature(note, log_key)
    present = [key for key in cosigner_keys if note.signature_by(key) is not None]
    cosigned_at_s = {key.name: verify_cosignature(note, key) for key in present}
    if len(cosigned_at_s) < cosigner_count_min:
        raise Unauthenticated(
            "COSIGNATURE_MISSING",
            "Too few trusted cosigners have cosigned.",
            given=len(cosigned_at_s),
            needed=cosigner_count_min,
        )
    return OpenedCheckpoint(checkpoint, note, MappingProxyType(cosigned_at_s))


def _cosigned_message(text: bytes, time_s: int) -> bytes:
    return f"{_COSIGNATURE_HEADER}time {time_s}\n".encode("ascii") + text


def _invalid(key: VerifierKey) -> LedgerError:
    return Unauthenticated("NOTE_SIGNATURE_INVALID", "A signature by a trusted key does not hold.", name=key.name)


def _value_by(note: Note, key: VerifierKey, algorithm: Algorithm) -> bytes:
    line = note.signature_by(key)
    if line is None or key.algorithm is not algorithm:
        raise Unauthenticated("NOTE_SIGNATURE_MISSING", "The trusted key has not signed the note.", name=key.name)
    return line.value


def _is_name(name: str) -> bool:
    """Tell whether a key may have this name: no Unicode space, no plus sign, no control character."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    foreign = "+" in name or _CONTROL.search(name) or any(character.isspace() for character in name)
    return 0 < size <= NAME_SIZE_MAX and not foreign


def _decoded(data: bytes) -> str:
    """Read UTF-8 without control characters; line breaks are none."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedInput("NOTE_MALFORMED", "A note is UTF-8.") from None
    if _CONTROL.search(text):
        raise MalformedInput("NOTE_MALFORMED", "A note holds no control characters.")
    return text


def _note_text(data: bytes) -> str:
    text = _decoded(data)
    if not text.endswith("\n") or len(data) > TEXT_SIZE_MAX:
        raise MalformedInput("NOTE_MALFORMED", "The text of a note ends with a newline, and is not too long.")
    return text


def _read_signature(line: str) -> NoteSignature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    data = decode_base64(encoded)
    if dash != _DASH or not _is_name(name) or data is None or len(data) <= KEY_ID_SIZE:
        raise MalformedInput("NOTE_MALFORMED", "A signature line is a dash, a name, and canonical base64.")
    return NoteSignature(name, data[:KEY_ID_SIZE], data[KEY_ID_SIZE:])
