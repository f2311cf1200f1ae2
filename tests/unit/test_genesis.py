"""The genesis document and the parties it names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import genesis, messages
from ledger.errors import Conflict, IntegrityFailure, MalformedInput, NotFound, Unauthenticated
from ledger.genesis import Genesis, GenesisAsset, GenesisParty
from ledger.parties import Role


def public_key(seed: int) -> bytes:
    """Give the raw public key of a fixed seed."""
    return messages.public_bytes(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def example() -> Genesis:
    """Give a small, valid genesis."""
    return Genesis(
        format=1,
        network="net-1",
        ledger="SH",
        created_ns=1_700_000_000_000_000_000,
        test_clock=False,
        assets=(GenesisAsset(code="CNY", number=1, scale=2, kind="money", home="SH"),),
        parties=(
            GenesisParty(code="node-sh", name="Node", roles=("node",), public_key=public_key(1).hex(), ledger="SH"),
            GenesisParty(
                code="PBOC", name="Issuer", roles=("issuer",), public_key=public_key(2).hex(), assets=("CNY",)
            ),
        ),
    )


def test_genesis_is_read_back() -> None:
    """decode(encode(x)) is x."""
    assert genesis.decode(genesis.encode(example())) == example()


def test_white_space_makes_another_document() -> None:
    """Only the canonical bytes are a genesis."""
    with pytest.raises(MalformedInput):
        genesis.decode(genesis.encode(example()).replace(b'"format":1', b'"format": 1'))


@pytest.mark.parametrize("text", [b'"net-1"', b'"CNY"', b'"money"', b'"SH"', public_key(1).hex().encode() + b'"'])
def test_a_line_feed_hides_in_no_field(text: bytes) -> None:
    """A code or key that ends in a line feed is refused, since it would read like the one without."""
    document = genesis.encode(example())
    with pytest.raises(MalformedInput):
        genesis.decode(document.replace(text, text[:-1] + b'\\n"', 1))


def test_unknown_field_is_refused() -> None:
    """Nothing unread may hide in the trust root."""
    with pytest.raises(MalformedInput):
        genesis.decode(genesis.encode(example())[:-1] + b',"extra":1}')


def test_unknown_format_is_refused_by_its_own_code() -> None:
    """A later format says so."""
    later = msgspec.structs.replace(example(), format=9)

    with pytest.raises(MalformedInput) as caught:
        genesis.decode(genesis.encode(later))

    assert caught.value.code == "GENESIS_FORMAT"


@pytest.mark.parametrize(
    "change",
    [
        {"parties": (example().parties[0], example().parties[0])},
        {"parties": example().parties[1:]},
        {"parties": (msgspec.structs.replace(example().parties[0], roles=("emperor",)),)},
        {"parties": (*example().parties, msgspec.structs.replace(example().parties[1], code="B", assets=("USD",)))},
        {"assets": example().assets * 2},
    ],
)
def test_inconsistent_genesis_is_refused(change: dict[str, object]) -> None:
    """Twice named, missing node, unknown role, unknown asset: each is refused."""
    bent = msgspec.structs.replace(example(), **change)

    with pytest.raises(MalformedInput):
        genesis.decode(genesis.encode(bent))


def test_hash_changes_with_any_field() -> None:
    """The root of the hash chain binds every field."""
    changed = msgspec.structs.replace(example(), created_ns=example().created_ns + 1)

    assert genesis.genesis_hash(changed) != genesis.genesis_hash(example())


def test_node_of_another_ledger_must_be_named() -> None:
    """Asking for a node that the genesis does not name is an error, not a guess."""
    with pytest.raises(MalformedInput):
        example().node("HK")


def test_unknown_asset_is_refused() -> None:
    """An asset that is not in the table does not exist."""
    assert example().asset("CNY").number == 1
    with pytest.raises(MalformedInput):
        example().asset("USD")


def test_directory_numbers_parties_from_one() -> None:
    """Genesis parties come first, in their order."""
    directory = genesis.directory(example())

    assert directory.by_code("PBOC").number == 2
    assert directory.party(2).roles == frozenset({Role.ISSUER})


def test_party_code_is_taken_once() -> None:
    """A second party cannot take a code."""
    directory = genesis.directory(example())

    with pytest.raises(Conflict):
        directory.add(code="PBOC", name="x", roles=frozenset(), public_key=public_key(3))


def test_refused_party_leaves_no_key() -> None:
    """A registration that fails leaves the directory as it was."""
    directory = genesis.directory(example())

    with pytest.raises(Conflict):
        directory.add(code="NEW", name="x", roles=frozenset(), public_key=public_key(2))

    assert "NEW" not in directory.numbers
    assert len(directory.parties) == 2


def test_revoked_key_no_longer_signs() -> None:
    """A revoked key is refused by name."""
    directory = genesis.directory(example())
    key_id = messages.key_id_of(public_key(2))
    directory.revoke(key_id, 7)

    with pytest.raises(Unauthenticated) as caught:
        directory.signer(key_id)

    assert caught.value.code == "KEY_REVOKED"
    with pytest.raises(Conflict):
        directory.revoke(key_id, 8)


def test_unknown_key_and_party_are_not_found() -> None:
    """Nothing is invented for a name nobody registered."""
    directory = genesis.directory(example())

    with pytest.raises(Unauthenticated):
        directory.signer("00" * 32)
    with pytest.raises(NotFound):
        directory.revoke("00" * 32, 1)
    with pytest.raises(NotFound):
        directory.by_code("NOBODY")


# --- the network ------------------------------------------------------------------------------------------------------


def pair() -> tuple[Genesis, Genesis]:
    """Give the documents of two ledgers that share nothing but what makes their network."""
    nodes = (
        GenesisParty(code="NODE-SH", name="Node", roles=("node",), public_key=public_key(1).hex(), ledger="SH"),
        GenesisParty(code="NODE-HK", name="Node", roles=("node",), public_key=public_key(2).hex(), ledger="HK"),
        GenesisParty(code="SETTLE", name="Op", roles=("settlement", "auditor"), public_key=public_key(3).hex()),
    )
    home = GenesisAsset(code="CNY", number=1, scale=2, kind="money", home="SH")
    away = GenesisAsset(code="HKD", number=2, scale=2, kind="money", home="HK")
    issuer = GenesisParty(code="PBOC", name="Issuer", roles=("issuer",), public_key=public_key(4).hex())
    shanghai = msgspec.structs.replace(example(), assets=(home, away), parties=(*nodes, issuer))
    hong_kong = msgspec.structs.replace(
        shanghai,
        ledger="HK",
        test_clock=True,
        assets=(msgspec.structs.replace(away, number=7), msgspec.structs.replace(home, number=9)),
        parties=(
            msgspec.structs.replace(nodes[2], roles=("auditor", "settlement")),
            *nodes[:2],
            GenesisParty(code="REG", name="Registrar", roles=("registrar",), public_key=public_key(5).hex()),
        ),
    )
    return shanghai, hong_kong


def test_two_ledgers_make_one_network() -> None:
    """Both documents give one network hash, whatever each ledger has of its own: numbers, order, clock, parties."""
    shanghai, hong_kong = pair()
    assert genesis.network_hash(shanghai) == genesis.network_hash(hong_kong)
    genesis.check_pair(shanghai, hong_kong)


def test_the_network_is_hashed_as_the_page_says() -> None:
    """The network hash is SHA-256 over the JSON that docs/formats.md describes, written here without our encoder."""
    shared = {
        "format": "hugang-network/1",
        "network": "net-1",
        "created_ns": 1_700_000_000_000_000_000,
        "assets": [
            {"code": "CNY", "scale": 2, "kind": "money", "home": "SH"},
            {"code": "HKD", "scale": 2, "kind": "money", "home": "HK"},
        ],
        "parties": [
            {"code": code, "name": name, "roles": roles, "public_key": public_key(seed).hex(), "ledger": ledger}
            for code, name, roles, seed, ledger in (
                ("NODE-HK", "Node", ["node"], 2, "HK"),
                ("NODE-SH", "Node", ["node"], 1, "SH"),
                ("SETTLE", "Op", ["auditor", "settlement"], 3, ""),
            )
        ],
    }
    text = json.dumps(shared, separators=(",", ":"))
    assert genesis.network_hash(pair()[1]) == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("document", {"network": "net-2"}),
        ("document", {"created_ns": 1_700_000_000_000_000_001}),
        ("asset", {"code": "EUR"}),
        ("asset", {"scale": 3}),
        ("asset", {"kind": "memo"}),
        ("asset", {"home": "HK"}),
        ("party", {"code": "NODE-2"}),
        ("party", {"name": "Other"}),
        ("party", {"roles": ("node", "registrar")}),
        ("party", {"roles": ()}),
        ("party", {"public_key": public_key(9).hex()}),
        ("party", {"ledger": "XX"}),
    ],
)
def test_whatever_both_share_makes_another_network(what: str, changes: dict[str, Any]) -> None:
    """A change of name, birth, asset or of anybody who may speak makes another network, and the two no pair."""
    shanghai, hong_kong = pair()
    if what == "asset":
        changes = {"assets": (msgspec.structs.replace(hong_kong.assets[1], **changes), hong_kong.assets[0])}
    if what == "party":
        first, second, third, fourth = hong_kong.parties
        changes = {"parties": (first, msgspec.structs.replace(second, **changes), third, fourth)}
    other = msgspec.structs.replace(hong_kong, **changes)
    assert genesis.network_hash(other) != genesis.network_hash(hong_kong)
    with pytest.raises(IntegrityFailure, match="GENESIS_PAIR"):
        genesis.check_pair(shanghai, other)


def test_a_ledger_is_no_pair_with_itself() -> None:
    """Two documents of one ledger are no pair, though they are of one network."""
    for one in pair():
        with pytest.raises(IntegrityFailure, match="GENESIS_PAIR"):
            genesis.check_pair(one, one)


def test_a_genesis_of_any_size_is_not_read() -> None:
    """More than its bound is refused before it is parsed."""
    with pytest.raises(MalformedInput, match="GENESIS_MALFORMED"):
        genesis.decode(bytes(genesis.SIZE_MAX + 1))


def test_an_issuer_of_what_does_not_exist_is_refused() -> None:
    """An issuer's assets are those of the table."""
    first, *others = example().parties
    wrong = msgspec.structs.replace(example(), parties=(msgspec.structs.replace(first, assets=("XXX",)), *others))
    with pytest.raises(MalformedInput, match="GENESIS_MALFORMED"):
        genesis.decode(genesis.encode(wrong))
