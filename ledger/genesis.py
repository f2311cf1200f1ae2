"""The genesis: all that an auditor must trust. One canonical JSON document; its SHA-256 is the root of the hash chain.

It names the network, the ledger, the assets, and the parties that exist before the first block: this node, its
registrar, the other node, the settlement operator, issuers. ``encode`` writes exactly one byte string for a genesis;
``decode`` refuses every other. Two hashes name what is signed for: ``genesis_hash`` one ledger, ``network_hash`` the
network, which both its ledgers' documents give alike.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

import msgspec

from ledger.errors import IntegrityFailure, MalformedInput
from ledger.parties import PARTY_CODE, Directory, Role

__all__ = [
    "Genesis",
    "GenesisAsset",
    "GenesisParty",
    "check_pair",
    "decode",
    "directory",
    "encode",
    "genesis_hash",
    "network_hash",
]

FORMAT = 1
NETWORK_FORMAT = "hugang-network/1"
SIZE_MAX = 2**20

Code = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
HexKey = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class GenesisAsset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One asset: its code, number on this ledger, decimal places for people, ``money`` or ``memo``, and home ledger."""

    code: Annotated[str, msgspec.Meta(pattern=r"\A[A-Z][A-Z0-9.]{1,11}\Z")]
    number: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    scale: Annotated[int, msgspec.Meta(ge=0, le=9)]
    kind: Annotated[str, msgspec.Meta(pattern=r"\A(money|memo)\Z")]
    home: Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z")]


class GenesisParty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One party that exists from the start; ``ledger`` is the code of the ledger it is the node of, or empty."""

    code: Code
    name: Code
    roles: tuple[str, ...]
    public_key: HexKey
    ledger: Annotated[str, msgspec.Meta(pattern=r"\A([A-Z]{2})?\Z")] = ""
    assets: tuple[str, ...] = ()
    """The assets an issuer issues here."""


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trust root of one ledger."""

    format: int
    network: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9.-]{0,63}\Z")]
    ledger: Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z")]
    created_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    test_clock: bool
    assets: tuple[GenesisAsset, ...]
    parties: tuple[GenesisParty, ...]

    def node(self, ledger: str) -> GenesisParty:
        """Give the party that is the node of ``ledger``.

        Raises:
            MalformedInput: the genesis names none.
        """
        for party in self.parties:
            if party.ledger == ledger:
                return party
        raise MalformedInput("GENESIS_MALFORMED", "The genesis names no node for this ledger.", ledger=ledger)

    def asset(self, code: str) -> GenesisAsset:
        """Give the asset with this code.

        Raises:
            MalformedInput: there is none.
        """
        for asset in self.assets:
            if asset.code == code:
                return asset
        raise MalformedInput("ASSET_UNKNOWN", "No such asset on this ledger.", asset=code)


class _NetworkAsset(msgspec.Struct, frozen=True):
    """An asset as both ledgers know it; its number is each ledger's own."""

    code: str
    scale: int
    kind: str
    home: str


class _NetworkParty(msgspec.Struct, frozen=True):
    """A party that may speak in settlement."""

    code: str
    name: str
    roles: tuple[str, ...]
    public_key: str
    ledger: str


class _Network(msgspec.Struct, frozen=True):
    """What the genesis documents of one network share, and what fixes who may speak in it."""

    format: str
    network: str
    created_ns: int
    assets: tuple[_NetworkAsset, ...]
    parties: tuple[_NetworkParty, ...]


def encode(genesis: Genesis) -> bytes:
    """Give the canonical bytes: JSON with the fields in their declared order, no white space."""
    return msgspec.json.encode(genesis)


def decode(data: bytes) -> Genesis:
    """Read a genesis; only its canonical bytes are accepted.

    Raises:
        MalformedInput: not a genesis, not canonical, or inconsistent.
    """
    if len(data) > SIZE_MAX:
        raise MalformedInput("GENESIS_MALFORMED", "The genesis is too large.")
    try:
        genesis = msgspec.json.decode(data, type=Genesis)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedInput("GENESIS_MALFORMED", f"The genesis cannot be read: {error}") from error
    if encode(genesis) != data:
        raise MalformedInput("GENESIS_MALFORMED", "The genesis is not in its canonical form.")
    _check(genesis)
    return genesis


def genesis_hash(genesis: Genesis) -> bytes:
    """Give SHA-256 over the canonical bytes: the previous hash of block 1."""
    return hashlib.sha256(encode(genesis)).digest()


def network_hash(genesis: Genesis) -> bytes:
    """Give SHA-256 over what this genesis shares with that of the network's other ledger: what statements are bound to.

    It is taken over canonical JSON, as ``encode`` writes it: format, network, created_ns, the assets without their
    numbers, and of the parties those that are a node or have the role of one or of the settlement operator. Assets and
    parties stand in ascending order of their codes, roles in ascending order.
    """
    assets = [_NetworkAsset(asset.code, asset.scale, asset.kind, asset.home) for asset in genesis.assets]
    parties = [
        _NetworkParty(party.code, party.name, tuple(sorted(party.roles)), party.public_key, party.ledger)
        for party in genesis.parties
        if party.ledger or not {Role.NODE, Role.SETTLEMENT}.isdisjoint(party.roles)
    ]
    shared = _Network(
        format=NETWORK_FORMAT,
        network=genesis.network,
        created_ns=genesis.created_ns,
        assets=tuple(sorted(assets, key=lambda asset: asset.code)),
        parties=tuple(sorted(parties, key=lambda party: party.code)),
    )
    return hashlib.sha256(msgspec.json.encode(shared)).digest()


def check_pair(first: Genesis, second: Genesis) -> None:
    """Check that two genesis documents are those of the two ledgers of one network.

    Raises:
        IntegrityFailure: ``GENESIS_PAIR``.
    """
    if first.ledger == second.ledger or network_hash(first) != network_hash(second):
        raise IntegrityFailure("GENESIS_PAIR", "The two genesis documents are not those of one network's two ledgers.")


def directory(genesis: Genesis) -> Directory:
    """Give the directory as it stands before block 1."""
    result = Directory()
    for party in genesis.parties:
        result.add(
            code=party.code,
            name=party.name,
            roles=frozenset(Role(role) for role in party.roles),
            public_key=bytes.fromhex(party.public_key),
        )
    return result


def _check(genesis: Genesis) -> None:
    """Refuse what the shape alone lets through."""
    if genesis.format != FORMAT:
        raise MalformedInput("GENESIS_FORMAT", "The genesis has a format this version does not know.")
    unique = (
        [asset.code for asset in genesis.assets],
        [asset.number for asset in genesis.assets],
        [party.code for party in genesis.parties],
        [party.public_key for party in genesis.parties],
        [party.ledger for party in genesis.parties if party.ledger],
    )
    if any(len(values) != len(set(values)) for values in unique):
        raise MalformedInput("GENESIS_MALFORMED", "The genesis names something twice.")
    known_roles = {role.value for role in Role}
    codes = {asset.code for asset in genesis.assets}
    for party in genesis.parties:
        if re.fullmatch(PARTY_CODE, party.code) is None or not set(party.roles) <= known_roles:
            raise MalformedInput("GENESIS_MALFORMED", "A party's code or role is not known.", party=party.code)
        if not set(party.assets) <= codes:
            raise MalformedInput("GENESIS_MALFORMED", "An issuer's asset is not in the table.", party=party.code)
    genesis.node(genesis.ledger)
