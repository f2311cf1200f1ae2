"""Replacing a key by another in one step, counted by position of the journal."""

from __future__ import annotations

import pytest

from ledger.errors import Conflict, Forbidden, Unauthenticated
from ledger.machine import Answer
from ledger.messages import Message
from tests.settlement_fixture import Node, World, public_key_of
from tests.unit.test_opening import begun_with_every_role, key_id

TOPIC = "/v1/keys/rotations"
BODY = {"public_key": public_key_of("second")}


@pytest.fixture
def world() -> World:
    """Two ledgers with money of their own."""
    return World.funded()


def payment(world: World, amount: int, *, key: str = "") -> Message:
    """Have ann sign a payment."""
    return world.sh.request("ann", "/v1/payments", world.payment("SH/WALLET.ann", "SH/WALLET.ben", amount), key=key)


def test_a_rotation_adds_the_new_key_and_ends_the_signing_one(world: World) -> None:
    """From the rotation's position on the new key signs for the party, and the old one for nobody."""
    position = world.sh.machine.position
    assert len(world.sh.post("ann", TOPIC, BODY)) == 0

    keys = world.sh.machine.directory.keys
    assert keys[key_id("ann")].revoked_at == position
    assert (keys[key_id("second")].party, keys[key_id("second")].revoked_at) == (keys[key_id("ann")].party, None)
    with pytest.raises(Unauthenticated, match="KEY_REVOKED"):
        world.sh.apply([payment(world, 1)])
    assert world.sh.apply([payment(world, 2, key="second")]).transfers["result"].tolist() == [0]


def test_revocation_counts_by_position(world: World) -> None:
    """What the old key signed before and what stands before the rotation is carried out; what stands behind is not."""
    early, late = payment(world, 1), payment(world, 2)
    rotation, new = world.sh.request("ann", TOPIC, BODY), payment(world, 3, key="second")

    draft = world.sh.apply([early, rotation, late])

    assert [type(outcome) for outcome in draft.outcomes] == [Answer, Answer, Unauthenticated]
    with pytest.raises(Unauthenticated, match="KEY_REVOKED"):
        world.sh.apply([late])
    assert world.sh.apply([new]).transfers["amount"].tolist() == [3]


def test_a_rotation_that_is_not_journaled_changes_no_key(world: World) -> None:
    """Neither key changes by a rotation to a key that somebody has, the signer's own included."""
    for taken in ("ben", "ann"):
        error = world.sh.refusal("ann", TOPIC, {"public_key": public_key_of(taken)})
        assert (type(error), error.code) == (Conflict, "KEY_EXISTS")
    assert world.sh.machine.directory.keys[key_id("ann")].revoked_at is None


def test_a_key_that_is_ended_never_comes_back(world: World) -> None:
    """Nobody rotates to a key that was replaced, not even its own party."""
    world.sh.post("ann", TOPIC, BODY)

    error = world.sh.refusal("ann", TOPIC, {"public_key": public_key_of("ann")}, key="second")
    assert error.code == "KEY_EXISTS"


def test_other_keys_of_the_party_stay(world: World) -> None:
    """Only the key that signs is replaced."""
    world.sh.post("ann", "/v1/keys", {"party": "ann", "public_key": public_key_of("third")})
    world.sh.apply([world.sh.request("ann", TOPIC, BODY, key="third")])

    assert [
        world.sh.machine.directory.keys[key_id(name)].revoked_at is None for name in ("ann", "second", "third")
    ] == [
        True,
        True,
        False,
    ]


def test_a_retry_is_signed_by_the_new_key(world: World) -> None:
    """Under its idempotency key the same rotation, signed by the new key, is answered as it was at first (I8)."""
    first = world.sh.apply([world.sh.request("ann", TOPIC, BODY, idempotency_key="rotate")])
    position = world.sh.machine.position

    again = world.sh.apply([world.sh.request("ann", TOPIC, BODY, idempotency_key="rotate", key="second")])

    assert again.outcomes == first.outcomes
    assert world.sh.machine.position == position
    assert world.sh.machine.directory.keys[key_id("second")].revoked_at is None


@pytest.mark.parametrize("party_code", ["NODE-SH", "NODE-HK", "SETTLEMENT"])
def test_the_keys_that_windows_need_are_never_replaced(world: World, party_code: str) -> None:
    """The genesis key of a node or of the settlement operator stays; a further key of theirs is replaced like any."""
    error = world.sh.refusal(party_code, TOPIC, BODY)
    assert (type(error), error.code) == (Forbidden, "KEYS_GUARDED")

    world.sh.post(party_code, "/v1/keys", {"party": party_code, "public_key": public_key_of("third")})
    world.sh.apply([world.sh.request(party_code, TOPIC, BODY, key="third")])
    assert world.sh.machine.directory.keys[key_id("third")].revoked_at is not None


@pytest.mark.parametrize("party_code", ["REGISTRAR-SH", "PBOC", "AUDITOR", "OWN", "OWN-participant"])
def test_other_genesis_parties_replace_their_keys(party_code: str) -> None:
    """A party of the genesis looks after its keys itself, so it may replace the one that stands there."""
    node: Node = begun_with_every_role()
    node.post(party_code, TOPIC, BODY)

    assert node.machine.directory.keys[key_id(party_code)].revoked_at is not None


def test_a_replay_gives_the_same_keys(world: World) -> None:
    """Keys and their ends are derived from the journal alone, also where one block holds old and new signatures."""
    world.sh.apply([payment(world, 1), world.sh.request("ann", TOPIC, BODY)])
    world.sh.apply([payment(world, 2, key="second")])

    again = world.sh.replayed()

    assert again.machine.directory == world.sh.machine.directory
    assert again.machine.frontier.root() == world.sh.machine.frontier.root()
