"""A ledger as a log: the names and keys under which its node signs checkpoints and the other nodes cosign them.

The log of ledger ``SH`` in network ``hugang-demo`` is called ``hugang-demo/sh``; so is its node when it signs or
cosigns. All keys come from the genesis, which names the nodes of both ledgers.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import checkpoint
from ledger.checkpoint import Algorithm, Checkpoint, Note, OpenedCheckpoint, VerifierKey
from ledger.errors import Unauthenticated
from ledger.genesis import Genesis

__all__ = ["cosigner_key", "cosigner_keys", "log_key", "open_own", "origin", "sign_checkpoint"]


def origin(network: str, ledger: str) -> str:
    """Name a ledger's log."""
    return f"{network}/{ledger.lower()}"


def log_key(genesis: Genesis, ledger: str) -> VerifierKey:
    """Give the key by which a ledger's node signs its checkpoints.

    Raises:
        MalformedInput: the genesis names no node for this ledger.
    """
    return _key(genesis, ledger, Algorithm.ED25519)


def cosigner_key(genesis: Genesis, ledger: str) -> VerifierKey:
    """Give the key by which a ledger's node cosigns the checkpoints of others.

    Raises:
        MalformedInput: the genesis names no node for this ledger.
    """
    return _key(genesis, ledger, Algorithm.COSIGNATURE_V1)


def cosigner_keys(genesis: Genesis, ledger: str) -> tuple[VerifierKey, ...]:
    """Give the keys of all nodes that cosign the checkpoints of ``ledger``, in order of their ledgers' codes."""
    others = sorted(party.ledger for party in genesis.parties if party.ledger not in ("", ledger))
    return tuple(cosigner_key(genesis, other) for other in others)


def sign_checkpoint(point: Checkpoint, private_key: Ed25519PrivateKey) -> bytes:
    """Make the note of a checkpoint of the signer's own log."""
    text = checkpoint.encode_checkpoint(point)
    line = checkpoint.sign(text, name=point.origin, private_key=private_key)
    return checkpoint.encode_note(Note(text, (line,)))


def open_own(data: bytes, genesis: Genesis, ledger: str) -> OpenedCheckpoint:
    """Read a checkpoint of ``ledger`` that holds nothing but what its node and the other nodes have signed.

    A note in general may carry lines by anybody. Here each line is the log's own, which comes first, or a cosigner's of
    the genesis, in order of their ledgers' codes; so no byte of the note is without meaning.

    Raises:
        MalformedInput: not a checkpoint, or the genesis does not know the ledger.
        Unauthenticated: a signature is missing or does not hold, or a line is by somebody else
            (``NOTE_SIGNER_UNKNOWN``).
    """
    signer, cosigners = log_key(genesis, ledger), cosigner_keys(genesis, ledger)
    opened = checkpoint.open_checkpoint(data, signer, cosigners)
    given = [(line.name, line.key_id) for line in opened.note.signatures]
    known = [(key.name, key.key_id) for key in (signer, *cosigners)]
    if given != [line for line in known if line in given]:
        raise Unauthenticated("NOTE_SIGNER_UNKNOWN", "A line of the note is by none of the nodes, or out of order.")
    return opened


def _key(genesis: Genesis, ledger: str, algorithm: Algorithm) -> VerifierKey:
    return VerifierKey(origin(genesis.network, ledger), algorithm, bytes.fromhex(genesis.node(ledger).public_key))
