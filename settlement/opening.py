"""Who takes part and which accounts exist: genesis, parties, keys, participants, customers' accounts, issuance.

Each topic has an ``authorise_…`` that changes nothing and an ``execute_…`` that cannot fail after it. Accounts are
opened in an order that follows from the messages alone, so that every replay gives them the same numbers.
"""

from __future__ import annotations

import numpy as np
from msgspec import UNSET

from ledger.errors import Conflict, Forbidden, MalformedInput, NotFound, Rejected
from ledger.genesis import Genesis, GenesisAsset, GenesisParty
from ledger.machine import Admitted, Context, Machine
from ledger.messages import key_id_of
from ledger.parties import Directory, Role
from ledger.state import State
from ledger.transfers import Flag, id_halves, transfers
from settlement.bodies import (
    AccountsBody,
    IssuancesBody,
    KeyBody,
    ParticipantBody,
    PartiesBody,
    RevocationBody,
    RotationBody,
)
from settlement.book import Book, Participant
from settlement.chart import CHART, AccountCode
from settlement.legs import Leg, TransferCode, leg_id, parse_uetr

__all__ = [
    "authorise_accounts",
    "authorise_issuances",
    "authorise_key",
    "authorise_participant",
    "authorise_parties",
    "authorise_revocation",
    "authorise_rotation",
    "begin",
    "execute_accounts",
    "execute_issuances",
    "execute_key",
    "execute_participant",
    "execute_parties",
    "execute_revocation",
    "execute_rotation",
    "open_account",
    "require_role",
    "signing_participant",
]

_OWN_BOOK = (
    AccountCode.SETTLE,
    AccountCode.FUNDS,
    AccountCode.CLEARING,
    AccountCode.POSITION,
    AccountCode.FEES,
    AccountCode.SUSPENSE,
)
"""What a participant gets in each asset, in this order."""
PARTICIPANT_COUNT_MAX = 4_096
"""Participants of one ledger: a statement names no more, so with more a window could never be listed."""


def begin(book: Book, machine: Machine) -> None:
    """Open the settlement institution's accounts and make each issuer a participant, as the genesis says.

    Raises:
        MalformedInput: ``GENESIS_MALFORMED``, an asset whose home is this ledger has not exactly one issuer.
    """
    genesis = machine.genesis
    assets = [asset for asset in sorted(genesis.assets, key=lambda asset: asset.number) if asset.kind == "money"]
    node = machine.directory.by_code(genesis.node(genesis.ledger).code).number
    for asset in assets:
        codes = [AccountCode.MIRROR, AccountCode.NETTING]
        if asset.home == genesis.ledger:
            issuer = machine.directory.by_code(_issuer(genesis.parties, asset).code).number
            book.institution[AccountCode.ISSUE, asset.number] = open_account(
                book, machine.state, AccountCode.ISSUE, asset=asset.number, owner=issuer
            )
            codes = [AccountCode.NETTING, AccountCode.OMNIBUS]
        for code in codes:
            number = open_account(book, machine.state, code, asset=asset.number, owner=node)
            book.institution[code, asset.number] = number
    for asset in assets:
        if asset.home == genesis.ledger:
            _join_issuer(book, machine, _issuer(genesis.parties, asset).code, asset.number)


def _issuer(parties: tuple[GenesisParty, ...], asset: GenesisAsset) -> GenesisParty:
    issuers = [party for party in parties if Role.ISSUER in party.roles and asset.code in party.assets]
    if len(issuers) != 1:
        raise MalformedInput("GENESIS_MALFORMED", "An asset has one issuer on its home ledger.", asset=asset.code)
    return issuers[0]


def _join_issuer(book: Book, machine: Machine, code: str, asset: int) -> None:
    """Make an issuer a participant: ISSUE stands for its settlement account, so it needs no funds."""
    participant = _participant_of_party(book, machine.directory.by_code(code).number, code)
    issue = book.institution[AccountCode.ISSUE, asset]
    clearing = open_account(book, machine.state, AccountCode.CLEARING, asset=asset, owner=participant.party)
    participant.accounts[AccountCode.SETTLE, asset] = issue
    participant.accounts[AccountCode.CLEARING, asset] = clearing
    for account in (issue, clearing):
        book.set_participant(account, participant.number, clearing=clearing, settle=issue)


def open_account(book: Book, state: State, code: AccountCode, *, asset: int, owner: int, klass: int = 0) -> int:
    """Open an account as the chart says and give its number; for now it is on nobody's book but the institution's."""
    number = state.open_account(owner=owner, asset=asset, code=code, flags=CHART[code].flags, klass=klass)
    book.set_participant(number, 0)
    return number


def require_role(directory: Directory, party: int, role: Role) -> None:
    """Let only a party of this role pass.

    Raises:
        Forbidden: ``ROLE_MISSING``.
    """
    if role not in directory.party(party).roles:
        raise Forbidden("ROLE_MISSING", "The signer does not have the role that this takes.", role=role.value)


def signing_participant(book: Book, party: int) -> Participant:
    """Give the participant that signs.

    Raises:
        Forbidden: ``NOT_PARTICIPANT``.
    """
    participant = book.by_party.get(party)
    if participant is None:
        raise Forbidden("NOT_PARTICIPANT", "The signer has not joined as a participant.")
    return participant


# --- parties and keys -------------------------------------------------------------------------------------------------


def authorise_parties(_book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a registrar register parties whose codes and keys are free.

    Raises:
        Forbidden: ``ROLE_MISSING``.
        Conflict: ``PARTY_EXISTS``, ``KEY_EXISTS``.
    """
    body: PartiesBody = admitted.content
    require_role(machine.directory, admitted.party, Role.REGISTRAR)
    for party in body.parties:
        if party.code in machine.directory.numbers:
            raise Conflict("PARTY_EXISTS", "A party with this code is already registered.", party=party.code)
        _check_key_free(machine.directory, party.public_key)


def execute_parties(_book: Book, admitted: Admitted, context: Context) -> None:
    """Register parties with their first keys."""
    body: PartiesBody = admitted.content
    for party in body.parties:
        context.directory.add(
            code=party.code,
            name=party.name,
            roles=frozenset(Role(role) for role in party.roles),
            public_key=bytes.fromhex(party.public_key),
        )


def authorise_key(_book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a party, or a registrar for it, add a key. Who is neither does not learn whether there is such a party.

    Raises:
        Forbidden: ``ROLE_MISSING``, ``KEYS_GUARDED``.
        NotFound: ``PARTY_NOT_FOUND``.
        Conflict: ``KEY_EXISTS``.
    """
    body: KeyBody = admitted.content
    if body.party != machine.directory.party(admitted.party).code:
        require_role(machine.directory, admitted.party, Role.REGISTRAR)
    _check_keeper(machine, admitted.party, machine.directory.by_code(body.party).number)
    _check_key_free(machine.directory, body.public_key)


def execute_key(_book: Book, admitted: Admitted, context: Context) -> None:
    """Give a party one more key."""
    body: KeyBody = admitted.content
    context.directory.add_key(context.directory.by_code(body.party).number, bytes.fromhex(body.public_key))


def authorise_revocation(_book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a party, or a registrar for it, end a key.

    Raises:
        NotFound: ``KEY_NOT_FOUND``.
        Forbidden: ``ROLE_MISSING``, ``KEYS_GUARDED``.
        Conflict: ``KEY_REVOKED_ALREADY``.
    """
    body: RevocationBody = admitted.content
    key = machine.directory.keys.get(body.key_id)
    if key is None:
        raise NotFound("KEY_NOT_FOUND", "No such key is registered.", key_id=body.key_id)
    _check_keeper(machine, admitted.party, key.party)
    if key.revoked_at is not None:
        raise Conflict("KEY_REVOKED_ALREADY", "The key is revoked already.", key_id=body.key_id)
    _check_mortal(machine.genesis, body.key_id)


def execute_revocation(_book: Book, admitted: Admitted, context: Context) -> None:
    """End a key from this message's position on."""
    body: RevocationBody = admitted.content
    context.directory.revoke(body.key_id, context.position)


def authorise_rotation(_book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a key be replaced by the one that its own signature names.

    Raises:
        Forbidden: ``KEYS_GUARDED``.
        Conflict: ``KEY_EXISTS``.
    """
    body: RotationBody = admitted.content
    _check_mortal(machine.genesis, admitted.envelope.key_id)
    _check_key_free(machine.directory, body.public_key)


def execute_rotation(_book: Book, admitted: Admitted, context: Context) -> None:
    """Give the signer the new key, and end the one that signed from this message's position on."""
    body: RotationBody = admitted.content
    context.directory.add_key(admitted.party, bytes.fromhex(body.public_key))
    context.directory.revoke(admitted.envelope.key_id, context.position)


def _check_mortal(genesis: Genesis, key_id: str) -> None:
    """Let pass what may ever end."""
    if key_id in _lasting_keys(genesis):
        raise Forbidden("KEYS_GUARDED", "This key stands in the genesis and lives as long as the ledger.")


def _lasting_keys(genesis: Genesis) -> set[str]:
    """Give the keys by which blocks, statements and certificates are checked: without them no window ever ends."""
    lasting = {Role.NODE.value, Role.SETTLEMENT.value}
    speakers = [party for party in genesis.parties if party.ledger or lasting & set(party.roles)]
    return {key_id_of(bytes.fromhex(party.public_key)) for party in speakers}


def _check_keeper(machine: Machine, signer: int, owner: int) -> None:
    """Let the owner of keys pass; a registrar too, unless the genesis names the owner, whatever its roles.

    Who trusts the genesis knows by it who may read everything, issue and speak for a ledger. With a key of its own for
    such a party a registrar could do the same.
    """
    if signer == owner:
        return
    require_role(machine.directory, signer, Role.REGISTRAR)
    code = machine.directory.party(owner).code
    if any(party.code == code for party in machine.genesis.parties):
        raise Forbidden("KEYS_GUARDED", "This party looks after its keys itself.")


def _check_key_free(directory: Directory, public_key: str) -> None:
    key_id = key_id_of(bytes.fromhex(public_key))
    if key_id in directory.keys:
        raise Conflict("KEY_EXISTS", "This key is already registered.", key_id=key_id)


# --- participants and their customers ---------------------------------------------------------------------------------


def authorise_participant(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let a party that a registrar made a participant open its accounts in assets where it has none.

    Raises:
        Forbidden: ``ROLE_MISSING``.
        Conflict: ``PARTICIPANT_EXISTS``.
        Rejected: ``PARTICIPANTS_FULL``.
    """
    body: ParticipantBody = admitted.content
    require_role(machine.directory, admitted.party, Role.PARTICIPANT)
    participant = book.by_party.get(admitted.party)
    if participant is None and len(book.participants) >= PARTICIPANT_COUNT_MAX:
        raise Rejected("PARTICIPANTS_FULL", "The ledger has as many participants as one window can list.")
    for code in body.assets:
        if participant and (AccountCode.SETTLE, machine.genesis.asset(code).number) in participant.accounts:
            raise Conflict("PARTICIPANT_EXISTS", "The participant has accounts in this asset already.", asset=code)


def execute_participant(book: Book, admitted: Admitted, context: Context) -> None:
    """Open a participant's accounts.

    Its signature is its standing authority: from now on its customers' payments move its SETTLE, FUNDS and CLEARING
    accounts, and what the settlement of windows takes.
    """
    body: ParticipantBody = admitted.content
    code = context.directory.party(admitted.party).code
    participant = _participant_of_party(book, admitted.party, code)
    first = context.state.account_count + 1
    for asset_code in body.assets:
        asset = context.machine.genesis.asset(asset_code).number
        opened = {
            kind: open_account(book, context.state, kind, asset=asset, owner=admitted.party) for kind in _OWN_BOOK
        }
        for kind, number in opened.items():
            participant.accounts[kind, asset] = number
        for kind in _OWN_BOOK[1:]:
            _enrol(book, participant, opened[kind], asset)
    book.openings[context.position] = range(first, context.state.account_count + 1)


def authorise_accounts(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let an operator open customers' accounts on its own book.

    Raises:
        Forbidden: ``ROLE_MISSING``, ``NOT_PARTICIPANT``.
        NotFound: ``PARTICIPANT_ASSET``, ``PARTY_NOT_FOUND``, ``CLASS_NOT_FOUND``.
    """
    body: AccountsBody = admitted.content
    require_role(machine.directory, admitted.party, Role.OPERATOR)
    participant = signing_participant(book, admitted.party)
    for account in body.accounts:
        asset = machine.genesis.asset(account.asset).number
        participant.account(AccountCode.FUNDS, asset)
        machine.directory.by_code(account.owner)
        if account.klass is not UNSET:
            book.class_in_force(asset, account.klass)


def execute_accounts(book: Book, admitted: Admitted, context: Context) -> None:
    """Open customers' accounts; the journal's position of the message leads to their numbers."""
    body: AccountsBody = admitted.content
    participant = book.by_party[admitted.party]
    first = context.state.account_count + 1
    for account in body.accounts:
        asset = context.machine.genesis.asset(account.asset).number
        owner = context.directory.by_code(account.owner).number
        klass = 0 if account.klass is UNSET else book.class_in_force(asset, account.klass)
        opened = open_account(book, context.state, AccountCode.WALLET, asset=asset, owner=owner, klass=klass)
        _enrol(book, participant, opened, asset)
    book.openings[context.position] = range(first, context.state.account_count + 1)


def _participant_of_party(book: Book, party: int, code: str) -> Participant:
    """Give a party's participant; make one if it has none."""
    participant = book.by_party.get(party)
    if participant is None:
        participant = Participant(len(book.participants) + 1, party, code)
        book.participants.append(participant)
        book.by_party[party] = participant
    return participant


def _enrol(book: Book, participant: Participant, account: int, asset: int) -> None:
    """Put an account on a participant's book."""
    book.set_participant(
        account,
        participant.number,
        clearing=participant.account(AccountCode.CLEARING, asset),
        funds=participant.account(AccountCode.FUNDS, asset),
        settle=participant.account(AccountCode.SETTLE, asset),
        fees=participant.account(AccountCode.FEES, asset),
    )


# --- issuance ---------------------------------------------------------------------------------------------------------


def authorise_issuances(book: Book, admitted: Admitted, machine: Machine, _timestamp_ns: int) -> None:
    """Let the issuer of an asset issue it, to participants that have accounts in it.

    Raises:
        Forbidden: ``ROLE_MISSING``, ``NOT_ISSUER``.
        NotFound: ``PARTICIPANT_NOT_FOUND``, ``PARTICIPANT_ASSET``.
    """
    body: IssuancesBody = admitted.content
    require_role(machine.directory, admitted.party, Role.ISSUER)
    for issuance in body.issuances:
        asset = machine.genesis.asset(issuance.money.asset).number
        issue = book.institution.get((AccountCode.ISSUE, asset))
        if issue is None or machine.state.account(issue).owner != admitted.party:
            raise Forbidden("NOT_ISSUER", "The signer does not issue this asset here.", asset=issuance.money.asset)
        _participant_named(book, machine.directory, issuance.participant).account(AccountCode.POSITION, asset)


def execute_issuances(book: Book, admitted: Admitted, context: Context) -> None:
    """Post ISSUE → SETTLE and FUNDS → POSITION for each, linked."""
    body: IssuancesBody = admitted.content
    commands = transfers(2 * len(body.issuances))
    for item, issuance in enumerate(body.issuances):
        asset = context.machine.genesis.asset(issuance.money.asset).number
        accounts = _participant_named(book, context.directory, issuance.participant).accounts
        identifier = parse_uetr(issuance.id)
        pair = commands[2 * item : 2 * item + 2]
        pair["id_hi"], pair["id_lo"] = np.array(
            [id_halves(leg_id(identifier, leg)) for leg in (Leg.ISSUE, Leg.ISSUE_FUNDS)], np.uint64
        ).T
        pair["amount"] = int(issuance.money.amount)
        pair["item"] = item
        pair["leg"] = (Leg.ISSUE, Leg.ISSUE_FUNDS)
        pair["debit"] = (book.institution[AccountCode.ISSUE, asset], accounts[AccountCode.FUNDS, asset])
        pair["credit"] = (accounts[AccountCode.SETTLE, asset], accounts[AccountCode.POSITION, asset])
        pair["flags"] = (Flag.LINKED, Flag.NONE)
    commands["party"] = admitted.party
    commands["code"] = TransferCode.ISSUANCE
    context.post(commands)


def _participant_named(book: Book, directory: Directory, code: str) -> Participant:
    participant = book.by_party.get(directory.numbers.get(code, 0))
    if participant is None:
        raise NotFound("PARTICIPANT_NOT_FOUND", "No participant with this code on this ledger.", participant=code)
    return participant
