"""Account addresses and account flags.

An address is how people and files name an account: the two-letter code of its ledger, two ISO 7064 mod 97-10 check
digits computed in the manner of an IBAN, and the account number with ten digits::

    >>> address("SH", 12)
    'SH530000000012'
    >>> parse_address("SH530000000012")
    ('SH', 12)

The check digits catch every single wrong character and every swap of neighbours, so that a typing error never names
somebody else's account.
"""

from __future__ import annotations

import enum
import re

from ledger.errors import InvariantViolation, MalformedInput

__all__ = ["ACCOUNT_NUMBER_MAX", "AccountFlag", "address", "parse_address"]

ACCOUNT_NUMBER_MAX = 2**32 - 1
"""Account numbers are unsigned 32-bit; zero is never an account."""

_ADDRESS = re.compile(r"([A-Z]{2})([0-9]{2})([0-9]{10})", re.ASCII)
_LEDGER_CODE = re.compile(r"[A-Z]{2}", re.ASCII)


class AccountFlag(enum.IntFlag):
    """Properties of an account, as they stand in its ``flags``."""

    NONE = 0
    CREDIT_NORMAL = 1
    """The balance is credits minus debits (what we owe); without it the account is debit-normal (what we own)."""
    LIMITED = 2
    """The available balance must not fall below the account's minimum (I4)."""
    CLOSED = 4
    """No new transfers and no new holds."""
    CAPPED = 8
    """The balance, what is pending to flow in included, must not rise above the account's maximum and its class's."""
    METERED = 16
    """What is debited counts against the limits of the account's class; only credit-normal accounts."""


def address(ledger_code: str, number: int) -> str:
    """Give the address of an account.

    Raises:
        InvariantViolation: the ledger code is not two capital letters, or no account can have the number.
    """
    if _LEDGER_CODE.fullmatch(ledger_code) is None or not 0 < number <= ACCOUNT_NUMBER_MAX:
        raise InvariantViolation(f"no account {number} on a ledger {ledger_code!r}")
    check = 98 - _weight(ledger_code, number) % 97
    return f"{ledger_code}{check:02d}{number:010d}"


def parse_address(text: str) -> tuple[str, int]:
    """Read an address: the ledger code and the account number. Whether the account exists is not asked here.

    Only the exact form is accepted: no blanks, no lower case, and of the three pairs of check digits that are equal
    modulo 97 only the one in 02 ... 98 that ``address`` writes.

    Raises:
        MalformedInput: ``ADDRESS_INVALID``.
    """
    match = _ADDRESS.fullmatch(text)
    if match is not None:
        ledger_code, check, digits = match.groups()
        number = int(digits)
        if int(check) == 98 - _weight(ledger_code, number) % 97 and 0 < number <= ACCOUNT_NUMBER_MAX:
            return ledger_code, number
    raise MalformedInput("ADDRESS_INVALID", "This is not an account address.")


def _weight(ledger_code: str, number: int) -> int:
    """Read "number, letters, 00" as one decimal number, where a letter counts as two digits (A = 10 ... Z = 35)."""
    letters = (ord(ledger_code[0]) - 55) * 100 + ord(ledger_code[1]) - 55
    return number * 1_000_000 + letters * 100
