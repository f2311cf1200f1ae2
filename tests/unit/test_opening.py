"""Parties, keys, participants, accounts and issuance: who may, and what then exists."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger.accounts import address
from ledger.errors import Conflict, Forbidden, InvariantViolation, MalformedInput, NotFound, Unauthenticated
from ledger.genesis import Genesis, GenesisParty
from ledger.machine import Context, Machine
from ledger.messages import key_id_of
from ledger.parties import Role
from ledger.transfers import Flag, Result, transfers
from settlement import opening
from settlement.book import Group, group_of
from settlement.chart import CHART, AccountCode
from settlement.interpreter import Settlement
from settlement.statements import PARTICIPANTS_MAX
from tests.settlement_fixture import SECOND, Node, World, genesis_of, issuance, party, public_key_of, uetr_of


@pytest.fixture
def world() -> World:
    """Two ledgers with money of their own."""
    return World.funded()


def started(genesis: Genesis) -> Settlement:
    """Give the interpreter of a machine that stands before block 1."""
    settlement = Settlement(genesis)
    Machine(genesis, settlement, hash_key=bytes(16))
    return settlement


def key_id(code: str) -> str:
    """Give the id of a party's key."""
    return key_id_of(bytes.fromhex(public_key_of(code)))


# --- genesis ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        ("SH", ["ISSUE 1", "NETTING 1", "OMNIBUS 1", "MIRROR 2", "NETTING 2", "CLEARING 1"]),
        ("HK", ["MIRROR 1", "NETTING 1", "ISSUE 2", "NETTING 2", "OMNIBUS 2", "CLEARING 2"]),
    ],
)
def test_the_institutions_accounts_exist_from_the_start(ledger: str, expected: list[str]) -> None:
    """Each money has its accounts as of home or abroad, in the order of the assets; the issuer clears."""
    node = Node.of(ledger)

    rows = node.machine.state.accounts[1:]
    assert [f"{AccountCode(row['code']).name} {row['asset']}" for row in rows] == expected
    issuer = node.book.participants[0]
    asset = 1 if ledger == "SH" else 2
    assert issuer.accounts[AccountCode.SETTLE, asset] == node.book.institution[AccountCode.ISSUE, asset]
    assert node.machine.state.account(issuer.accounts[AccountCode.SETTLE, asset]).owner == issuer.party


def test_accounts_are_opened_as_the_chart_says() -> None:
    """Normal side and limit of every account of a busy ledger are those of its code."""
    world = World.everywhere()
    world.quote(sell="CNY", maximum=5, buy="HKD", rate="1.00000000")

    for node in world.nodes:
        for row in node.machine.state.accounts[1:]:
            assert row["flags"] == CHART[AccountCode(row["code"])].flags
            assert row["minimum"] == 0


@pytest.mark.parametrize("issuers", [0, 2])
def test_an_asset_has_exactly_one_issuer(issuers: int) -> None:
    """A genesis whose home asset has no issuer, or two, starts no ledger."""
    genesis = genesis_of("SH")
    *others, issuer = genesis.parties
    twin = msgspec.structs.replace(issuer, code="TWIN", public_key="00" * 32)
    parties = (*others, *(issuer, twin)[:issuers])

    with pytest.raises(MalformedInput, match="GENESIS_MALFORMED"):
        started(msgspec.structs.replace(genesis, parties=parties))


def test_no_hold_of_a_window_expires(world: World) -> None:
    """A hold of a window that expires stops the machine: no message derives one with a deadline."""
    machine = world.sh.machine
    hold = transfers(1)
    hold["debit"], hold["credit"] = world.sh.account("WALLET.ann"), world.sh.account("WALLET.ben")
    hold["amount"], hold["timeout_s"], hold["flags"], hold["party"] = 1, 1, Flag.PENDING, 1
    hold["group"] = group_of(1, Group.OUTGOING)
    Context(machine, position=machine.position, timestamp_ns=machine.timestamp_ns).post(hold)

    with pytest.raises(InvariantViolation):
        machine.apply([], machine.timestamp_ns + 2 * SECOND)


# --- parties and keys -------------------------------------------------------------------------------------------------


def test_only_a_registrar_registers(world: World) -> None:
    """Registering parties takes the registrar's role."""
    error = world.sh.refusal("ALPHA", "/v1/parties", {"parties": [party("new")]})

    assert (type(error), error.code) == (Forbidden, "ROLE_MISSING")


def test_codes_and_keys_are_used_once(world: World) -> None:
    """A code or a key that is registered is not registered again."""
    body: Any = {"parties": [party("new"), party("ann") | {"public_key": "11" * 32}]}
    assert world.sh.refusal("REGISTRAR-SH", "/v1/parties", body).code == "PARTY_EXISTS"

    error = world.sh.refusal("REGISTRAR-SH", "/v1/parties", {"parties": [party("ann") | {"code": "ann2"}]})
    assert (type(error), error.code) == (Conflict, "KEY_EXISTS")


@pytest.mark.parametrize("who", ["ann", "REGISTRAR-SH"])
def test_a_party_or_its_registrar_adds_and_ends_keys(world: World, who: str) -> None:
    """A second key signs like the first; a revoked one signs no more."""
    world.sh.post(who, "/v1/keys", {"party": "ann", "public_key": public_key_of("second")})
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5)
    draft = world.sh.apply([world.sh.request("ann", "/v1/payments", payment, key="second")])
    assert draft.transfers["result"].tolist() == [Result.OK]

    world.sh.post(who, "/v1/keys/revocations", {"key_id": key_id("second")})

    with pytest.raises(Unauthenticated, match="KEY_REVOKED"):
        world.sh.apply([world.sh.request("ann", "/v1/payments", payment, key="second")])


def test_a_key_admitted_before_its_revocation_is_too_late_after_it(world: World) -> None:
    """Revocation counts by the order of the journal, not by when a message was let in."""
    payment = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5)
    revocation = world.sh.request("ann", "/v1/keys/revocations", {"key_id": key_id("ann")})

    draft = world.sh.apply([revocation, world.sh.request("ann", "/v1/payments", payment)])

    assert isinstance(draft.outcomes[1], Unauthenticated)


def begun_with_every_role() -> Node:
    """Begin a ledger whose genesis names a party of each role, one of none and a second registrar."""
    genesis = genesis_of("SH")
    roles: dict[str, tuple[str, ...]] = {f"OWN-{role}": (role,) for role in ("participant", "operator", "fx-provider")}
    roles |= {"OWN": (), "REGISTRAR-2": ("registrar",)}
    more = [
        GenesisParty(code=code, name=code, roles=role, public_key=public_key_of(code), ledger="", assets=())
        for code, role in roles.items()
    ]
    changed = msgspec.structs.replace(genesis, parties=(*genesis.parties, *more))
    settlement = Settlement(changed)
    return Node("SH", Machine(changed, settlement, hash_key=bytes(16)), settlement)


NAMED = [party.code for party in begun_with_every_role().machine.genesis.parties if party.code != "REGISTRAR-SH"]


def test_the_genesis_has_every_role() -> None:
    """The ledger on which keys are guarded names a party of every role that there is."""
    parties = begun_with_every_role().machine.genesis.parties
    assert {role for party in parties for role in party.roles} == {role.value for role in Role}


@pytest.mark.parametrize("party_code", NAMED)
def test_a_registrar_has_no_hand_on_the_genesis_parties_keys(party_code: str) -> None:
    """A registrar could otherwise read everything, issue money or speak for a ledger, whatever the party's role."""
    node = begun_with_every_role()
    new = {"party": party_code, "public_key": public_key_of("second")}
    assert node.refusal("REGISTRAR-SH", "/v1/keys", new).code == "KEYS_GUARDED"

    error = node.refusal("REGISTRAR-SH", "/v1/keys/revocations", {"key_id": key_id(party_code)})
    assert (type(error), error.code) == (Forbidden, "KEYS_GUARDED")


@pytest.mark.parametrize("party_code", NAMED)
def test_genesis_parties_look_after_their_own_keys(party_code: str) -> None:
    """Each adds a key of its own, and ends it with the first one; nobody needs a registrar for that."""
    node = begun_with_every_role()
    node.post(party_code, "/v1/keys", {"party": party_code, "public_key": public_key_of("second")})
    node.post(party_code, "/v1/keys/revocations", {"key_id": key_id("second")})

    error = node.refusal("REGISTRAR-SH", "/v1/keys", {"party": party_code, "public_key": public_key_of("third")})
    assert error.code == "KEYS_GUARDED"


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.PARTICIPANT, Role.OPERATOR, Role.FX_PROVIDER}))
def test_a_registrar_makes_nobody_what_the_genesis_alone_makes(world: World, role: Role) -> None:
    """A registrar that registers itself once more, as auditor say, would read everything by a key of its own."""
    body: Any = {"parties": [party("mine", role.value)]}
    with pytest.raises(MalformedInput, match="BODY_MALFORMED"):
        world.sh.post("REGISTRAR-SH", "/v1/parties", body)


@pytest.mark.parametrize("party_code", ["NODE-SH", "NODE-HK"])
@pytest.mark.parametrize("topic", ["/v1/keys/revocations", "/v1/keys/rotations"])
def test_a_node_of_no_role_cannot_end_the_key_that_it_speaks_by(party_code: str, topic: str) -> None:
    """The ledger beside a party in the genesis makes it a node, so its key lasts without a role too."""
    genesis = genesis_of("SH")
    parties = tuple(
        msgspec.structs.replace(party, roles=() if party.ledger else party.roles) for party in genesis.parties
    )
    changed = msgspec.structs.replace(genesis, parties=parties)
    settlement = Settlement(changed)
    node = Node("SH", Machine(changed, settlement, hash_key=bytes(16)), settlement)
    body = {"key_id": key_id(party_code)} if "revocations" in topic else {"public_key": public_key_of("second")}
    assert node.refusal(party_code, topic, body).code == "KEYS_GUARDED"


@pytest.mark.parametrize("party_code", ["NODE-SH", "NODE-HK", "SETTLEMENT"])
def test_the_keys_that_windows_need_are_never_ended(world: World, party_code: str) -> None:
    """Not even their owner ends the genesis key of a node or of the settlement operator; a further key it does."""
    error = world.sh.refusal(party_code, "/v1/keys/revocations", {"key_id": key_id(party_code)})
    assert (type(error), error.code) == (Forbidden, "KEYS_GUARDED")

    world.sh.post(party_code, "/v1/keys", {"party": party_code, "public_key": public_key_of("second")})
    world.sh.post(party_code, "/v1/keys/revocations", {"key_id": key_id("second")})


def test_no_more_join_than_a_window_can_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A participant too many would leave its ledger without a list, and every window undecided."""
    assert opening.PARTICIPANT_COUNT_MAX <= PARTICIPANTS_MAX
    world.sh.post("REGISTRAR-SH", "/v1/parties", {"parties": [party("late", "participant")]})
    monkeypatch.setattr(opening, "PARTICIPANT_COUNT_MAX", len(world.sh.book.participants))

    assert world.sh.refusal("late", "/v1/participants", {"assets": ["CNY"]}).code == "PARTICIPANTS_FULL"


def test_an_issuer_looks_after_its_own_keys(world: World) -> None:
    """The guarded parties add and end keys themselves."""
    world.sh.post("PBOC", "/v1/keys", {"party": "PBOC", "public_key": public_key_of("second")})
    world.sh.post("PBOC", "/v1/keys/revocations", {"key_id": key_id("second")})

    error = world.sh.refusal("PBOC", "/v1/keys/revocations", {"key_id": key_id("second")})
    assert (type(error), error.code) == (Conflict, "KEY_REVOKED_ALREADY")


def test_nobody_touches_anothers_keys(world: World) -> None:
    """A party adds and ends its own keys alone."""
    new = {"party": "ann", "public_key": public_key_of("second")}

    assert world.sh.refusal("ben", "/v1/keys", new).code == "ROLE_MISSING"
    assert world.sh.refusal("ben", "/v1/keys/revocations", {"key_id": key_id("ann")}).code == "ROLE_MISSING"


def test_only_a_registrar_learns_whether_a_party_exists(world: World) -> None:
    """Whoever may not add keys for others reads the same refusal for a party that exists and for one that does not."""
    for code in ("ben", "nobody", "PBOC"):
        new = {"party": code, "public_key": public_key_of("second")}
        error = world.sh.refusal("ann", "/v1/keys", new)
        assert (type(error), error.code, error.fields) == (Forbidden, "ROLE_MISSING", {"role": "registrar"})


def test_unknown_parties_and_keys_are_not_found(world: World) -> None:
    """A key for nobody and the end of no key are refused; a key that somebody has is taken."""
    new = {"party": "nobody", "public_key": public_key_of("second")}

    assert world.sh.refusal("REGISTRAR-SH", "/v1/keys", new).code == "PARTY_NOT_FOUND"
    assert world.sh.refusal("ann", "/v1/keys/revocations", {"key_id": "00" * 32}).code == "KEY_NOT_FOUND"
    taken = {"party": "ann", "public_key": public_key_of("ben")}
    assert world.sh.refusal("ann", "/v1/keys", taken).code == "KEY_EXISTS"


# --- participants and accounts ----------------------------------------------------------------------------------------


def test_joining_takes_the_role(world: World) -> None:
    """A party that no registrar made a participant does not become one."""
    error = world.sh.refusal("ann", "/v1/participants", {"assets": ["CNY"]})

    assert (type(error), error.code) == (Forbidden, "ROLE_MISSING")


def test_joining_twice_in_one_asset_is_a_conflict(world: World) -> None:
    """A participant may join in further assets, each once."""
    world.sh.post("ALPHA", "/v1/participants", {"assets": ["HKD"]})

    error = world.sh.refusal("ALPHA", "/v1/participants", {"assets": ["CNY"]})
    assert (type(error), error.code) == (Conflict, "PARTICIPANT_EXISTS")
    assert len([one for one in world.sh.book.participants if one.code == "ALPHA"]) == 1


def test_what_a_message_opened_is_known_by_its_position(world: World) -> None:
    """The numbers of opened accounts follow from the journal's position of the message."""
    position = world.sh.machine.position
    accounts = [{"owner": owner, "asset": "CNY"} for owner in ("cai", "ben")]
    world.sh.post("ALPHA", "/v1/accounts", {"accounts": accounts})

    opened = [world.sh.machine.state.account(number) for number in world.sh.book.openings[position]]
    owners = [world.sh.machine.directory.by_code(owner).number for owner in ("cai", "ben")]
    assert [account.owner for account in opened] == owners
    alpha = world.sh.book.participant_by_code("ALPHA").number
    assert all(world.sh.book.participant_of[account.number] == alpha for account in opened)


def test_only_an_operator_that_has_joined_opens_accounts(world: World) -> None:
    """It takes the role, a participant, its accounts in the asset, and an owner."""
    loose = [party("loose", "operator"), party("plain", "participant")]
    world.sh.post("REGISTRAR-SH", "/v1/parties", {"parties": loose})
    world.sh.post("plain", "/v1/participants", {"assets": ["CNY"]})

    def code(who: str, owner: str, asset: str) -> str:
        return world.sh.refusal(who, "/v1/accounts", {"accounts": [{"owner": owner, "asset": asset}]}).code

    assert code("plain", "ann", "CNY") == "ROLE_MISSING"
    assert code("loose", "ann", "CNY") == "NOT_PARTICIPANT"
    assert code("ALPHA", "ann", "HKD") == "PARTICIPANT_ASSET"
    assert code("ALPHA", "nobody", "CNY") == "PARTY_NOT_FOUND"


def test_many_accounts_can_be_opened(world: World) -> None:
    """The book grows with the accounts; the last one pays like the first."""
    world.sh.post("ALPHA", "/v1/accounts", {"accounts": [{"owner": "ben", "asset": "CNY"}] * 3_000})
    last = world.sh.machine.state.account_count
    fund = world.payment("SH/WALLET.ann", "SH/WALLET.ben", 5)

    assert world.sh.pay("ann", fund | {"creditor": address("SH", last)})["result"].tolist() == [Result.OK]
    back = fund | {"uetr": uetr_of("back"), "debtor": address("SH", last), "creditor": world.address("SH/WALLET.cai")}
    assert set(world.sh.pay("ben", back)["result"].tolist()) == {Result.OK}
    world.check()


# --- issuance ---------------------------------------------------------------------------------------------------------


def test_only_the_issuer_of_an_asset_issues_it(world: World) -> None:
    """Neither another party nor the issuer of another asset issues, and nobody issues abroad."""
    body = {"issuances": [issuance("ALPHA", 5, name="more")]}
    assert world.sh.refusal("ALPHA", "/v1/issuances", body).code == "ROLE_MISSING"

    abroad = {"issuances": [issuance("GAMMA", 5, "CNY", name="more")]}
    error = world.hk.refusal("HKMA", "/v1/issuances", abroad)
    assert (type(error), error.code) == (Forbidden, "NOT_ISSUER")


def test_an_issuance_names_a_participant_with_accounts(world: World) -> None:
    """One wrong item refuses the whole message."""
    good = issuance("ALPHA", 5, name="good")

    for wrong, code in (
        ("nobody", "PARTICIPANT_NOT_FOUND"),
        ("ann", "PARTICIPANT_NOT_FOUND"),
        ("PBOC", "PARTICIPANT_ASSET"),
    ):
        error = world.sh.refusal("PBOC", "/v1/issuances", {"issuances": [good, issuance(wrong, 5, name="bad")]})
        assert (type(error), error.code) == (NotFound, code)


def test_an_issuance_is_carried_out_once(world: World) -> None:
    """Its id is used up: a second message with it issues nothing, and the rest of that message counts."""
    items = [issuance("ALPHA", 5, name="x"), issuance("BETA", 7, name="y")]
    world.sh.post("PBOC", "/v1/issuances", {"issuances": items[:1]})
    issued = world.sh.balance("ISSUE")

    records = world.sh.post("PBOC", "/v1/issuances", {"issuances": items})

    assert records["result"].tolist() == [Result.ID_EXISTS, Result.LINKED_FAILED, Result.OK, Result.OK]
    assert world.sh.balance("ISSUE") == issued + 7
    world.check()


def test_issuing_too_much_overflows_nothing(world: World) -> None:
    """An issuance that would carry a counter to 2^63 is refused."""
    records = world.sh.post("PBOC", "/v1/issuances", {"issuances": [issuance("ALPHA", 2**63 - 1, name="huge")]})

    assert records["result"].tolist() == [Result.OVERFLOW, Result.LINKED_FAILED]
    world.check()
