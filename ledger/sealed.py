"""Sealed balances: every account's counters at one moment, under one hash that a checkpoint carries.

A checkpoint says which records stand in a journal; what an account holds is a sum over them. So that one account's
balance can be shown without all the others', a node puts the root of a tree over all accounts into a checkpoint, as an
extension line, which its signature and the other node's cosignature cover::

    balances 1204 <root in base64>

The tree is that of RFC 6962. Leaf *i* is account *i* + 1, in this form (65 bytes, little-endian):

======  =====  ====================  =========================================================
offset  type   field
======  =====  ====================  =========================================================
0       u8     3                     what a leaf of a journal never begins with
1       u32    number
5       u32    owner                 the party's number
9       u16    asset
11      u16    code                  what the account is for
13      u16    flags                 ``AccountFlag``
15      u16    zero
17      i64    minimum
25      i64    debits_pending
33      i64    debits_posted
41      i64    credits_pending
49      i64    credits_posted
57      u64    last                  1 + position of the last record that touched it, 0 if none
======  =====  ====================  =========================================================

A **balance proof** is MessagePack: ``["hugang-balance/1", ledger, checkpoint: bin, leaf: bin 65, [hash: bin 32, …]]``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from ledger import checkpoint, logs, merkle
from ledger.accounts import AccountFlag, address
from ledger.canonical import decode_base64, decode_decimal, encode_base64
from ledger.errors import IntegrityFailure, LedgerError, MalformedInput, NotFound
from ledger.genesis import Genesis
from ledger.merkle import HASH_SIZE
from ledger.state import AccountView, State

__all__ = ["FORMAT", "SIZE_MAX", "BalanceProof", "Sealed", "make_proof", "sealed_root", "verify_balance"]

FORMAT = "hugang-balance/1"
SIZE_MAX = 2**14
"""Bytes of a balance proof."""
LEAF_KIND = 3
_WORD = "balances"
_FIELDS = ("owner", "asset", "code", "flags", "minimum", "last")
_COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")

LEAF = np.dtype(
    [
        ("kind", "u1"),
        ("number", "<u4"),
        ("owner", "<u4"),
        ("asset", "<u2"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("zero", "<u2"),
        ("minimum", "<i8"),
        *((name, "<i8") for name in _COUNTERS),
        ("last", "<u8"),
    ]
)
"""One account as a leaf: 65 bytes."""
_FLAGS = sum(int(flag) for flag in AccountFlag)


class _Document(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Annotated[str, msgspec.Meta(max_length=32)]
    ledger: Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z")]
    checkpoint: Annotated[bytes, msgspec.Meta(max_length=checkpoint.TEXT_SIZE_MAX)]
    leaf: Annotated[bytes, msgspec.Meta(min_length=LEAF.itemsize, max_length=LEAF.itemsize)]
    proof: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(min_length=HASH_SIZE, max_length=HASH_SIZE)], ...],
        msgspec.Meta(max_length=32),
    ]


@dataclass(frozen=True, slots=True)
class BalanceProof:
    """A balance proof that was verified.

    Attributes:
        ledger: the ledger's code.
        address: the account's address.
        account: its counters, in minor units.
        tree_size: how many leaves the journal had: the counters are those after the record before.
        tree_root: the root over these leaves.
        cosigned_at_s: the Unix times at which other nodes cosigned the checkpoint, by their logs' names.
    """

    ledger: str
    address: str
    account: AccountView
    tree_size: int
    tree_root: bytes
    cosigned_at_s: Mapping[str, int]


class Sealed:
    """All accounts of one moment. Made in the writer's turn by copying them; hashed when first asked, anywhere."""

    def __init__(self, state: State) -> None:
        """Copy the accounts."""
        self._accounts = state.accounts[1:].copy()

    @property
    def count(self) -> int:
        """How many accounts there are."""
        return len(self._accounts)

    @functools.cached_property
    def root(self) -> bytes:
        """The root over all accounts."""
        return merkle.range_root(0, self.count, self._node) if self.count else merkle.EMPTY_ROOT

    @property
    def extension(self) -> str:
        """The line of a checkpoint that carries count and root."""
        return f"{_WORD} {self.count} {encode_base64(self.root)}"

    def leaf(self, number: int) -> bytes:
        """Give an account's leaf.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``, there was no such account then.
        """
        if not 0 < number <= self.count:
            raise NotFound("ACCOUNT_NOT_FOUND", "No such account was sealed.", account=number)
        return self._leaves(number - 1, number).tobytes()

    def proof(self, number: int) -> list[bytes]:
        """Prove that an account's leaf stands in the tree.

        Raises:
            NotFound: ``ACCOUNT_NOT_FOUND``.
        """
        self.leaf(number)
        ranges = merkle.inclusion_ranges(number - 1, self.count)
        return [merkle.range_root(start, end, self._node) for start, end in ranges]

    def _node(self, level: int, index: int) -> bytes:
        """Give the root of complete subtree ``index`` of ``2**level`` accounts."""
        hashes, tile_roots = self._tree
        rows, shift = (tile_roots, level - merkle.TILE_LEVEL) if level >= merkle.TILE_LEVEL else (hashes, level)
        return merkle.root(rows[index << shift : index + 1 << shift])

    @functools.cached_property
    def _tree(self) -> tuple[merkle.Bytes, merkle.Bytes]:
        """Hash all leaves; gives their hashes and the roots of tiles."""
        rows = self._leaves(0, self.count).view(np.uint8).reshape(self.count, LEAF.itemsize)
        hashes = merkle.leaf_hashes(rows)
        frontier = merkle.Frontier()
        frontier.append_many(hashes)
        _, tile_roots = frontier.take_tile_roots()
        return hashes, np.frombuffer(tile_roots, np.uint8).reshape(-1, HASH_SIZE)

    def _leaves(self, first: int, end: int) -> npt.NDArray[np.void]:
        """Write accounts ``first`` + 1 to ``end`` as leaves."""
        leaves = np.zeros(end - first, LEAF)
        leaves["kind"], leaves["number"] = LEAF_KIND, np.arange(first + 1, end + 1)
        for name in (*_FIELDS, *_COUNTERS):
            leaves[name] = self._accounts[name][first:end]
        return leaves


def sealed_root(extensions: tuple[str, ...]) -> tuple[int, bytes] | None:
    """Give count and root that a checkpoint's extension lines carry, ``None`` if none of them seals balances.

    Raises:
        MalformedInput: ``BALANCES_MALFORMED``, such a line is not of its form, or there are two.
    """
    lines = [line for line in extensions if line.split(" ", 1)[0] == _WORD]
    if not lines:
        return None
    _, _, rest = lines[0].partition(" ")
    count_text, _, root_text = rest.partition(" ")
    count, root = decode_decimal(count_text), decode_base64(root_text)
    if len(lines) > 1 or count is None or root is None or len(root) != HASH_SIZE:
        raise MalformedInput("BALANCES_MALFORMED", "The line that seals balances is not of its form.")
    return count, root


def make_proof(sealed: Sealed, note: bytes, ledger: str, number: int) -> bytes:
    """Make one account's balance proof.

    Args:
        sealed: the accounts of the checkpoint's moment.
        note: the checkpoint that carries their root.
        ledger: the ledger's code.
        number: the account's.

    Raises:
        NotFound: ``ACCOUNT_NOT_FOUND``.
    """
    return msgspec.msgpack.encode(_Document(FORMAT, ledger, note, sealed.leaf(number), tuple(sealed.proof(number))))


def verify_balance(proof: bytes, genesis: Genesis) -> BalanceProof:
    """Check a balance proof from the keys of a genesis alone.

    Args:
        proof: its bytes.
        genesis: that of either ledger.

    Raises:
        IntegrityFailure: ``BALANCE_MALFORMED``, not of the form; ``BALANCE_INVALID``, a signature or the proof does not
            hold.
    """
    try:
        document = msgspec.msgpack.decode(proof, type=_Document) if len(proof) <= SIZE_MAX else None
    except (msgspec.DecodeError, ValueError) as error:
        raise IntegrityFailure("BALANCE_MALFORMED", f"The balance proof cannot be read: {error}") from error
    if document is None or document.format != FORMAT or msgspec.msgpack.encode(document) != proof:
        raise IntegrityFailure("BALANCE_MALFORMED", "The balance proof is too large, of another format or spelling.")
    try:
        return _checked(document, genesis)
    except LedgerError as error:
        raise IntegrityFailure("BALANCE_INVALID", error.sentence) from error


def _checked(document: _Document, genesis: Genesis) -> BalanceProof:
    opened = logs.open_own(document.checkpoint, genesis, document.ledger)
    carried = sealed_root(opened.checkpoint.extensions)
    row = np.frombuffer(document.leaf, LEAF)[0]
    if carried is None or (row["kind"], row["zero"]) != (LEAF_KIND, 0) or int(row["flags"]) & ~_FLAGS:
        raise IntegrityFailure("BALANCE_INVALID", "The checkpoint seals no balances, or this is no account.")
    count, root = carried
    number = int(row["number"])
    if not 0 < number <= count:
        raise IntegrityFailure("BALANCE_INVALID", "No account of this number was sealed.", account=number)
    try:
        merkle.verify_inclusion(merkle.leaf_hash(document.leaf), number - 1, count, document.proof, root)
    except IntegrityFailure as error:
        raise IntegrityFailure("BALANCE_INVALID", error.sentence) from error
    fields = {name: int(row[name]) for name in (*_FIELDS, *_COUNTERS)}
    flags = AccountFlag(fields.pop("flags"))
    return BalanceProof(
        ledger=document.ledger,
        address=address(document.ledger, number),
        account=AccountView(number=number, flags=flags, **fields),
        tree_size=opened.checkpoint.size,
        tree_root=opened.checkpoint.root,
        cosigned_at_s=opened.cosigned_at_s,
    )
