"""Who may speak: parties, their roles and their keys.

A party is numbered in the order in which it was journaled, from 1; genesis parties come first. A key belongs to one
party for ever; revoking it counts from a journal position, so that what it signed before stands. Deny by default: a
party without a role can debit its own accounts and nothing else.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field

from ledger.errors import Conflict, NotFound, Unauthenticated
from ledger.messages import key_id_of

__all__ = ["PARTY_CODE", "Directory", "Key", "Party", "Role"]

PARTY_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a party's code looks like: a BIC, an LEI or any short name."""


class Role(enum.StrEnum):
    """What a party may do beyond debiting its own accounts."""

    REGISTRAR = "registrar"
    """Registers parties, keys and participants."""
    ISSUER = "issuer"
    """Issues an asset at its home ledger."""
    OPERATOR = "operator"
    """Opens customer accounts on its own book."""
    PARTICIPANT = "participant"
    """Holds a settlement account."""
    FX_PROVIDER = "fx-provider"
    """Publishes quotes."""
    AUDITOR = "auditor"
    """Reads everything, changes nothing."""
    SETTLEMENT = "settlement"
    """Closes windows and proposes."""
    NODE = "node"
    """Is one of the two ledgers: lists, accepts, votes, decides."""


@dataclass(frozen=True, slots=True)
class Party:
    """One party: its number here, the code the world knows it by, a name for people, its roles."""

    number: int
    code: str
    name: str
    roles: frozenset[Role]


@dataclass(slots=True)
class Key:
    """A raw Ed25519 public key of one party; ``revoked_at`` is the journal position from which it no longer counts."""

    party: int
    public_key: bytes
    revoked_at: int | None = None


@dataclass(slots=True)
class Directory:
    """Parties by number and by code, keys by id."""

    parties: list[Party] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)

    def add(self, *, code: str, name: str, roles: frozenset[Role], public_key: bytes) -> Party:
        """Register a party with its first key.

        Raises:
            Conflict: the code or the key is taken.
        """
        if code in self.numbers:
            raise Conflict("PARTY_EXISTS", "A party with this code is already registered.", party=code)
        party = Party(len(self.parties) + 1, code, name, roles)
        self.add_key(party.number, public_key)
        self.parties.append(party)
        self.numbers[code] = party.number
        return party

    def add_key(self, party: int, public_key: bytes) -> None:
        """Give a party one more key.

        Raises:
            Conflict: the key already belongs to somebody.
        """
        key_id = key_id_of(public_key)
        if key_id in self.keys:
            raise Conflict("KEY_EXISTS", "This key is already registered.", key_id=key_id)
        self.keys[key_id] = Key(party, public_key)

    def revoke(self, key_id: str, position: int) -> None:
        """End a key from ``position`` on; what it signed before stands.

        Raises:
            NotFound: no such key.
            Conflict: it is revoked already.
        """
        key = self.keys.get(key_id)
        if key is None:
            raise NotFound("KEY_NOT_FOUND", "No such key is registered.", key_id=key_id)
        if key.revoked_at is not None:
            raise Conflict("KEY_REVOKED_ALREADY", "The key is revoked already.", key_id=key_id)
        key.revoked_at = position

    def signer(self, key_id: str) -> Key:
        """Find the key that may sign now.

        Raises:
            Unauthenticated: unknown or revoked.
        """
        key = self.keys.get(key_id)
        if key is None:
            raise Unauthenticated("KEY_UNKNOWN", "The key that signed is not registered here.", key_id=key_id)
        if key.revoked_at is not None:
            raise Unauthenticated("KEY_REVOKED", "The key that signed is revoked.", key_id=key_id)
        return key

    def party(self, number: int) -> Party:
        """Give the party with this number (from 1)."""
        return self.parties[number - 1]

    def by_code(self, code: str) -> Party:
        """Give the party with this code.

        Raises:
            NotFound: there is none.
        """
        number = self.numbers.get(code)
        if number is None:
            raise NotFound("PARTY_NOT_FOUND", "No party with this code is registered here.", party=code)
        return self.parties[number - 1]
