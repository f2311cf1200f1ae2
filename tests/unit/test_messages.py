"""Messages: statements, envelopes and the stored encoding."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import messages, signatures
from ledger.errors import LedgerError, MalformedInput, Unauthenticated
from ledger.messages import Kind, Message

NETWORK_HASH = bytes(range(32, 64))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def proposal(body: bytes = b"body") -> Message:
    """Give a signed statement to bend."""
    return messages.statement(KEY, network_hash=NETWORK_HASH, ledger="SH", kind="proposal", subject="2/1", body=body)


def test_statement_says_what_it_was_made_from() -> None:
    """The parsed envelope names kind, subject, speaker, network and digest."""
    envelope = messages.parse(proposal())

    assert envelope.topic == "statement:proposal"
    assert (envelope.subject, envelope.network_hash, envelope.ledger) == ("2/1", NETWORK_HASH, "SH")
    assert envelope.genesis_hash == b""
    assert envelope.key_id == messages.key_id_of(messages.public_bytes(KEY))


def test_statement_verifies_under_its_key() -> None:
    """A statement verifies under the key that made it."""
    message = proposal()

    messages.verify(message, messages.parse(message), messages.public_bytes(KEY))


def test_statement_under_another_key_is_refused() -> None:
    """Another key's owner cannot have said it."""
    message = proposal()

    with pytest.raises(Unauthenticated) as caught:
        messages.verify(message, messages.parse(message), messages.public_bytes(OTHER_KEY))

    assert caught.value.code == "SIGNATURE_INVALID"


def test_body_swapped_after_signing_is_refused() -> None:
    """The digest in the base binds the body."""
    message = proposal()
    swapped = Message(message.kind, message.base, message.signature, b"other")

    with pytest.raises(Unauthenticated) as caught:
        messages.verify(swapped, messages.parse(swapped), messages.public_bytes(KEY))

    assert caught.value.code == "DIGEST_MISMATCH"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"subject 2/1", b"subject 02/1"),
        (b"subject 2/1", b"subject 2/-1"),
        (b"subject 2/1", b"subject 2"),
        (b"ledger SH", b"ledger sh"),
        (b"kind proposal", b"kind Proposal"),
        (b"network ", b"network  "),
        (b"network 20", b"network "),
        (b"network 20", b"network 2020"),
        (b"2a2b", b"2A2b"),
        (NETWORK_HASH.hex().encode(), b"net-1"),
        (b"hugang-statement/1", b"hugang-statement/2"),
        (b"\nsubject", b"\r\nsubject"),
        (b"network " + NETWORK_HASH.hex().encode() + b"\n", b""),
    ],
)
def test_base_out_of_form_is_refused(old: bytes, new: bytes) -> None:
    """A base that two readers could read differently is not read at all."""
    message = proposal()
    assert old in message.base

    with pytest.raises(MalformedInput):
        messages.parse(Message(message.kind, message.base.replace(old, new), message.signature, message.body))


def test_trailing_line_is_refused() -> None:
    """Nothing may follow the seventh line."""
    message = proposal()

    with pytest.raises(MalformedInput):
        messages.parse(Message(message.kind, message.base + b"\n", message.signature, message.body))


def test_statement_belongs_to_its_network() -> None:
    """A statement that was said in another network is refused, whatever ledger's genesis is at hand."""
    envelope = messages.parse(proposal())
    messages.check_addressee(envelope, genesis_hash=bytes(32), network_hash=NETWORK_HASH)

    for network_hash in (bytes(32), b"", NETWORK_HASH[:31]):
        with pytest.raises(Unauthenticated) as caught:
            messages.check_addressee(envelope, genesis_hash=NETWORK_HASH, network_hash=network_hash)
        assert caught.value.code == "NETWORK_MISMATCH"


@given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from(list(Kind)))
def test_stored_form_is_read_back(base: bytes, body: bytes, kind: Kind) -> None:
    """decode(encode(x)) is x, whatever the bytes."""
    message = Message(kind, base, bytes(64), body)

    assert messages.decode(messages.encode(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_decode_canonically_or_not_at_all(data: bytes) -> None:
    """What decodes encodes back to the same bytes; everything else is malformed."""
    try:
        message = messages.decode(data)
    except MalformedInput:
        return
    assert messages.encode(message) == data


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_stored_form_cut_short_is_refused(cut: int) -> None:
    """No prefix of a stored message is a message."""
    data = messages.encode(proposal())

    with pytest.raises(MalformedInput):
        messages.decode(data[: len(data) - 1 - cut])


@given(st.integers(0, 400), st.integers(1, 255))
def test_flipped_byte_in_a_base_never_verifies(index: int, mask: int) -> None:
    """A changed base is malformed, or its signature fails."""
    message = proposal()
    base = bytearray(message.base)
    base[index % len(base)] ^= mask
    bent = Message(message.kind, bytes(base), message.signature, message.body)

    with pytest.raises(LedgerError):
        messages.verify(bent, messages.parse(bent), messages.public_bytes(KEY))


@pytest.mark.parametrize(
    ("base", "signature"), [(b"x" * (messages.BASE_SIZE_MAX + 1), bytes(64)), (b"x", bytes(63)), (b"x", bytes(65))]
)
def test_a_head_out_of_bounds_is_refused(base: bytes, signature: bytes) -> None:
    """A base that is too long, or a signature of another size, is refused before it is read."""
    with pytest.raises(MalformedInput, match="MESSAGE_MALFORMED"):
        messages.parse(Message(Kind.STATEMENT, base, signature, b""))


def test_a_journaled_request_is_a_post_without_a_query() -> None:
    """What was signed for reading, or for another place by its query, is no message."""
    fields = {
        "authority": "127.0.0.1:8700",
        "path": "/v1/payments",
        "created": 1,
        "expires": 2,
        "key_id": messages.key_id_of(messages.public_bytes(KEY)),
        "genesis_hash": bytes(32),
        "content_type": "application/json",
        "content_digest": bytes(32),
        "idempotency_key": "k",
    }
    for other in ({"method": "PUT"}, {"method": "POST", "query": "?a=1"}):
        base = signatures.signature_base(**(fields | other))
        with pytest.raises(MalformedInput, match="MESSAGE_MALFORMED"):
            messages.parse(Message(Kind.REQUEST, base, bytes(64), b""))
