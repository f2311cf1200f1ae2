"""Synthetic participants and a day of wholesale payments between them: seeded, in columns, integers out.

The shape follows published figures; every participant, name and payment is invented.

- *Size*: CIPS settled 29,800 to 35,000 payments a business day, CNY 19.6 to 23.5 m each on average, from March to
  October 2025 (monthly CIPS statistics divided by the mainland's business days). A day here has 35,000 payments with a
  mean of CNY 21 m; amounts are log-normal.
- *Concentration*: HKD CHATS had 161 participants in 2021, the five largest with 55 % of the payments and 50 % of their
  value (BIS CPMI red book statistics, table CTA2). Here: 160 participants, the same five-participant shares.
- *Identifiers*: BICs have ``0`` as their eighth character, the convention for test and training; LEIs carry correct
  check digits (ISO 17442, ISO 7064 MOD 97-10).

Every payment crosses the border, in both directions: payer and payee are never on the same ledger. Counts per payer are
apportioned, not drawn, and each class of amounts is scaled to its mean before it is rounded, so that the shape holds
for every seed and only who pays whom, how much and when is left to chance. The generator is PCG64, whose stream numpy
fixes.

>>> day = wholesale_day(7, payment_count=1_000, participant_count=16)
>>> len(day.payments), len(day.participants), int(day.net().sum())
(1000, 16, 0)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from stdnum.iso7064 import mod_97_10

__all__ = [
    "AMOUNT_MEAN",
    "PARTICIPANT_COUNT",
    "PAYMENT_COUNT",
    "SEED",
    "WHOLESALE",
    "Day",
    "SyntheticParticipant",
    "synthetic_participants",
    "uetrs",
    "wholesale_day",
]

PAYMENT_COUNT = 35_000
"""Payments of one CIPS day."""
PARTICIPANT_COUNT = 160
"""Half of them on each ledger."""
AMOUNT_MEAN = 21_000_000_00
"""Mean amount in fen: CNY 21 m."""
SEED = 20_250_618
"""What a demonstration uses unless told otherwise."""

WHOLESALE = np.dtype(
    [
        ("uetr_hi", "<u8"),
        ("uetr_lo", "<u8"),
        ("amount", "<i8"),
        ("payer", "<u2"),
        ("payee", "<u2"),
    ]
)
"""One payment: UETR halves, amount in fen, indices of payer and payee among the participants."""

_TOP_WEIGHTS = (13, 12, 11, 10, 9)
"""Hundredths of all payments that the five largest send: 55 together."""
_TOP_VALUE_SHARE = 50
"""Hundredths of the value that the five largest send."""
_TAIL_WEIGHT = 45
_TAIL_EXPONENT = 0.8
"""How fast shares fall among the rest: a power of the rank."""
_SIGMA = 1.5
"""Spread of the amounts: standard deviation of their natural logarithm; not published, so chosen: median CNY 6.8 m."""
_FUNDING_STEP = 1_000_000_00
"""Participants are funded in whole millions of yuan."""

_VERSION_CLEAR = np.uint64(0xFFFF_FFFF_FFFF_0FFF)
_VERSION_FOUR = np.uint64(0x4000)
_VARIANT_CLEAR = np.uint64(0x3FFF_FFFF_FFFF_FFFF)
_VARIANT_TEN = np.uint64(0x8000_0000_0000_0000)

Amounts = npt.NDArray[np.int64]
"""Shape (participants,), fen."""


@dataclass(frozen=True, slots=True)
class SyntheticParticipant:
    """An invented institution: its index, ledger code, BIC (8 characters), LEI (20 characters) and name."""

    index: int
    ledger: str
    bic: str
    lei: str
    name: str


@dataclass(frozen=True, slots=True)
class Day:
    """One day: who takes part and their payments in the order in which they are sent, dtype ``WHOLESALE``."""

    seed: int
    participants: tuple[SyntheticParticipant, ...]
    payments: npt.NDArray[np.void]

    @property
    def gross(self) -> int:
        """The sum of all amounts, in fen."""
        return int(self.payments["amount"].sum())

    def sent(self) -> Amounts:
        """Give what each participant sends over the day."""
        return _totals(self.payments["payer"], self.payments["amount"], len(self.participants))

    def received(self) -> Amounts:
        """Give what each participant receives over the day."""
        return _totals(self.payments["payee"], self.payments["amount"], len(self.participants))

    def net(self) -> Amounts:
        """Give each participant's net position if everything settles: positive receives; the sum is zero (I6)."""
        return self.received() - self.sent()

    def funding(self) -> Amounts:
        """Give what each participant must hold before the day, in whole millions of yuan.

        A payment reserves its amount when it is made and what comes in can be spent only after the window has settled
        (no overdraft), so this is what it sends, rounded up: the lowest funding under which nothing is refused.
        """
        return -(-self.sent() // _FUNDING_STEP) * _FUNDING_STEP

    def of_payer(self, index: int) -> npt.NDArray[np.void]:
        """Give one participant's own payments, in order."""
        own: npt.NDArray[np.void] = self.payments[self.payments["payer"] == index]
        return own

    def concentration(self, count: int = 5) -> tuple[int, int]:
        """Give the shares of the ``count`` participants that send most: of volume, and of value, in thousandths."""
        volumes = np.bincount(self.payments["payer"], minlength=len(self.participants)).astype(np.int64)
        return _share(volumes, count), _share(self.sent(), count)


def synthetic_participants(count: int = PARTICIPANT_COUNT) -> tuple[SyntheticParticipant, ...]:
    """Invent participants: the first half in Shanghai, the second in Hong Kong.

    Raises:
        ValueError: ``count`` is odd, below 2 or above 2,000.
    """
    if count % 2 or not 2 <= count <= 2_000:
        raise ValueError(f"an even number of participants from 2 to 2,000, not {count}")
    return tuple(_participant(index, half=count // 2) for index in range(count))


def uetrs(generator: np.random.Generator, count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Draw UUIDv4 halves (RFC 9562 §5.4: version 0100 in bits 48-51, variant 10 in bits 64-65)."""
    halves = generator.integers(0, 2**64, size=(2, count), dtype=np.uint64)
    return (halves[0] & _VERSION_CLEAR) | _VERSION_FOUR, (halves[1] & _VARIANT_CLEAR) | _VARIANT_TEN


def wholesale_day(
    seed: int = SEED, *, payment_count: int = PAYMENT_COUNT, participant_count: int = PARTICIPANT_COUNT
) -> Day:
    """Invent a day. The same arguments give the same day.

    Args:
        seed: of the PCG64 generator.
        payment_count: at least one.
        participant_count: even, from 2 to 2,000.

    Raises:
        ValueError: a count is out of range.
    """
    if payment_count < 1:
        raise ValueError(f"at least one payment, not {payment_count}")
    participants = synthetic_participants(participant_count)
    generator = np.random.Generator(np.random.PCG64(seed))
    ranked = _by_rank(participant_count)
    weights = np.zeros(participant_count)
    weights[ranked] = _rank_weights(participant_count)
    payments = np.zeros(payment_count, WHOLESALE)
    payments["payer"] = generator.permutation(
        np.repeat(np.arange(participant_count), _apportion(weights, payment_count))
    )
    payments["payee"] = _payees(generator, payments["payer"], weights)
    payments["amount"] = _amounts(generator, is_top=np.isin(payments["payer"], ranked[: len(_TOP_WEIGHTS)]))
    payments["uetr_hi"], payments["uetr_lo"] = uetrs(generator, payment_count)
    return Day(seed, participants, payments)


def _participant(index: int, *, half: int) -> SyntheticParticipant:
    ledger, country, place, city = ("SH", "CN", "S", "Shanghai") if index < half else ("HK", "HK", "H", "Hong Kong")
    number = index % half + 1
    letters = "".join(chr(ord("A") + number // 26**power % 26) for power in (2, 1, 0))
    stem = f"XTST00{ledger}BANK{number:06d}"
    return SyntheticParticipant(
        index=index,
        ledger=ledger,
        bic=f"Q{letters}{country}{place}0",
        lei=stem + mod_97_10.calc_check_digits(stem),
        name=f"Synthetic Bank {number} {city}",
    )


def _by_rank(count: int) -> npt.NDArray[np.int64]:
    """Give participant indices from the largest on: the two ledgers take turns, two by two after the first."""
    half = count // 2
    order = [index // 2 + (half if (index + 1) // 2 % 2 else 0) for index in range(2 * half)]
    return np.array(order, np.int64)


def _rank_weights(count: int) -> npt.NDArray[np.float64]:
    """Give the share of payments by rank, in hundredths."""
    top = np.array(_TOP_WEIGHTS[:count], np.float64)
    tail = np.arange(1, count - len(top) + 1, dtype=np.float64) ** -_TAIL_EXPONENT
    return np.concatenate([top, tail / tail.sum() * _TAIL_WEIGHT]) if len(tail) else top


def _apportion(weights: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Split ``count`` by weights: whole parts first, what is left to the largest remainders (ties: lower index)."""
    exact = weights / weights.sum() * count
    parts: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    order = np.argsort(parts - exact, kind="stable")
    parts[order[: count - int(parts.sum())]] += 1
    return parts


def _payees(
    generator: np.random.Generator, payers: npt.NDArray[np.uint16], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Draw each payment's payee on the other ledger: who sends much receives much."""
    half = len(weights) // 2
    payees = np.empty(len(payers), np.int64)
    for is_shanghai, others in ((True, slice(half, None)), (False, slice(0, half))):
        chosen = (payers < half) == is_shanghai
        shares = weights[others] / weights[others].sum()
        payees[chosen] = generator.choice(np.arange(2 * half)[others], size=int(chosen.sum()), p=shares)
    return payees


def _amounts(generator: np.random.Generator, *, is_top: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Draw amounts in fen: log-normal, scaled so that the five largest payers send their share of the value."""
    count = len(is_top)
    drawn = np.exp(generator.normal(0, _SIGMA, count))
    total = AMOUNT_MEAN * count
    for chosen, share in ((is_top, _TOP_VALUE_SHARE), (~is_top, 100 - _TOP_VALUE_SHARE)):
        if chosen.any():
            drawn[chosen] *= total * (share if not chosen.all() else 100) / 100 / drawn[chosen].sum()
    amounts: npt.NDArray[np.int64] = np.maximum(np.rint(drawn), 1).astype(np.int64)
    return amounts


def _totals(index: npt.NDArray[np.uint16], amounts: Amounts, count: int) -> Amounts:
    totals = np.zeros(count, np.int64)
    np.add.at(totals, index, amounts)
    return totals


def _share(values: npt.NDArray[np.int64], count: int) -> int:
    return int(np.sort(values)[-count:].sum()) * 1_000 // int(values.sum())
