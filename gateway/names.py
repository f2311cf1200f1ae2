"""The address book of a demonstration: what people call an account, and which key debits it.

``FOLDER/names.json`` maps a name such as ``lin`` to an account's address, its asset and its owner; the owner's private
key is ``FOLDER/keys/OWNER.pem``. Nothing in it is trusted by a node: it only saves typing.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import load_key, save_key
from ledger.accounts import parse_address
from ledger.errors import MalformedInput, NotFound
from ledger.parties import PARTY_CODE

__all__ = [
    "NAMES_FILE",
    "Name",
    "Names",
    "add_party_key",
    "key_path",
    "load_names",
    "minor_units",
    "party_key",
    "save_names",
]

NAMES_FILE = "names.json"
SIZE_MAX = 2**24
WORD_SIZE_MAX = 64
SCALE = 2
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,2}))?", re.ASCII)

Word = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\Z")]


class Name(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account: its ledger code, owner's party code, address, asset, and a title for people."""

    ledger: Annotated[str, msgspec.Meta(pattern=r"\A(SH|HK)\Z")]
    party: str
    address: str
    asset: str
    title: str


class Names(msgspec.Struct, forbid_unknown_fields=True):
    """All names, and the quotes that a payment in two assets uses unless told otherwise, by ``CNY/HKD``."""

    names: dict[Word, Name] = {}
    quotes: dict[str, str] = {}

    def find(self, word: str) -> Name:
        """Give the account of this name.

        Raises:
            NotFound: nobody is called so.
        """
        name = self.names.get(word)
        if name is None:
            raise NotFound("NAME_NOT_FOUND", f"{NAMES_FILE} knows no such name; {self._hint(word)}.", name=word)
        return name

    def address(self, word: str) -> str:
        """Give an address: of a name, or the address itself.

        Raises:
            NotFound: neither a name nor an address.
        """
        if word in self.names:
            return self.names[word].address
        try:
            parse_address(word)
        except MalformedInput as error:
            sentence = f"Neither an address nor a name in {NAMES_FILE}; {self._hint(word)}."
            raise NotFound("NAME_NOT_FOUND", sentence, name=word) from error
        return word

    def _hint(self, word: str) -> str:
        """Say what may have been meant, or where to look."""
        if not self.names:
            return "this network has no named accounts yet, and `make demo` makes one that has"
        near = difflib.get_close_matches(word[:WORD_SIZE_MAX].lower(), self.names)
        return f"perhaps {' or '.join(near)}" if near else "`hugang account` lists all names"

    def asset(self, address: str) -> str | None:
        """Give the asset of an address, if it has a name."""
        return next((name.asset for name in self.names.values() if name.address == address), None)


def load_names(folder: Path) -> Names:
    """Read the address book; a folder without one has an empty one.

    Raises:
        MalformedInput: the file cannot be read.
    """
    try:
        data = (folder / NAMES_FILE).read_bytes()
    except FileNotFoundError:
        return Names()
    try:
        if len(data) > SIZE_MAX:
            raise MalformedInput("NAMES_MALFORMED", f"{NAMES_FILE} is too large.")
        return msgspec.json.decode(data, type=Names)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedInput("NAMES_MALFORMED", f"{NAMES_FILE} cannot be read: {error}") from error


def save_names(folder: Path, names: Names) -> None:
    """Write the address book."""
    (folder / NAMES_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(names), indent=2) + b"\n")


def key_path(folder: Path, party: str) -> Path:
    """Name the file of a party's private key.

    Raises:
        MalformedInput: no party can be called so.
    """
    if PARTY_CODE.fullmatch(party) is None:
        raise MalformedInput("PARTY_MALFORMED", "No party can have this code.", party=party)
    return folder / "keys" / f"{party}.pem"


def party_key(folder: Path, party: str) -> Ed25519PrivateKey:
    """Read a party's private key from the folder.

    Raises:
        MalformedInput: it is missing, open to others, or no such key.
    """
    return load_key(key_path(folder, party))


def add_party_key(folder: Path, party: str, key: Ed25519PrivateKey) -> None:
    """Keep a party's private key in the folder.

    Raises:
        Conflict: the party has one already.
    """
    save_key(key_path(folder, party), key)


def minor_units(text: str) -> int:
    """Read an amount as people write it: ``88``, ``88.5`` or ``88.50`` is 8850.

    Raises:
        MalformedInput: anything else.
    """
    match = _DECIMAL.fullmatch(text)
    amount = int(match[1]) * 10**SCALE + int((match[2] or "").ljust(SCALE, "0")) if match else 0
    if amount == 0:
        sentence = "An amount is above zero, with at most two decimal places and no commas, written as 1000.00."
        raise MalformedInput("AMOUNT_INVALID", sentence, amount=text)
    return amount
