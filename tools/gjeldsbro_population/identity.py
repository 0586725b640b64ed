"""Synthetic identity numbers and organisation numbers with valid check digits.

A person's number has 80 added to the month, as Skatteetaten's test numbers have; no such number belongs to a living
person. Organisation numbers begin with 3, a series that Brønnøysundregistrene uses for synthetic units only.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

_K1_WEIGHTS = (3, 7, 6, 1, 8, 9, 4, 5, 2)
_K2_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
_ORGANISATION_WEIGHTS = (3, 2, 7, 6, 5, 4, 3, 2)
_ACCOUNT_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)

OLDEST = date(1932, 1, 1)
YOUNGEST = date(2007, 12, 31)
"""Everybody is of age in 2026 and at most 94."""

D_NUMBER_SHARE = 0.06
NEW_RULE_SHARE = 0.03
"""The share of numbers that only the rule of 2032 accepts (remainder 1-3 for the first check digit)."""


def _remainder(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11


def _with_check_digits(nine: str, k1_remainder: int) -> str | None:
    """The eleven digits whose first check digit leaves ``k1_remainder``, or None when no such number is issued."""
    k1 = (k1_remainder - _remainder(nine, _K1_WEIGHTS)) % 11
    if k1 == 10:
        return None
    ten = f"{nine}{k1}"
    k2 = -_remainder(ten, _K2_WEIGHTS) % 11
    return None if k2 == 10 else f"{ten}{k2}"


def _serial(rng: Random, year: int) -> int:
    """Three digits from the series that the year of birth used before 2032."""
    if year >= 2000:
        return rng.randrange(500, 1000)
    return rng.randrange(900, 1000) if year >= 1940 and rng.random() < 0.05 else rng.randrange(500)


def customer_ids(rng: Random) -> Iterator[str]:
    """Distinct synthetic numbers without end: fødselsnumre, some D-numbers, some that only the rule of 2032 accepts."""
    days = (YOUNGEST - OLDEST).days
    seen: set[str] = set()
    while True:
        # the mean of two draws: more people in their forties than at the ends
        born = OLDEST + timedelta(days=(rng.randrange(days) + rng.randrange(days)) // 2)
        day = born.day + (40 if rng.random() < D_NUMBER_SHARE else 0)
        nine = f"{day:02d}{born.month + 80:02d}{born.year % 100:02d}{_serial(rng, born.year):03d}"
        remainder = rng.randrange(1, 4) if rng.random() < NEW_RULE_SHARE else 0
        number = _with_check_digits(nine, remainder)
        if number is not None and number not in seen:
            seen.add(number)
            yield number


def organisation_number(rng: Random) -> str:
    """Nine digits with a valid check digit, in a series without real organisations."""
    while True:
        eight = f"3{rng.randrange(10**7):07d}"
        check = -_remainder(eight, _ORGANISATION_WEIGHTS) % 11
        if check != 10:
            return f"{eight}{check}"


def luhn_digit(digits: str) -> int:
    """The mod-10 check digit of Norwegian KID numbers and of Swedish organisation numbers."""
    doubled = (int(digit) * (2 - index % 2) for index, digit in enumerate(reversed(digits)))
    return -sum(value // 10 + value % 10 for value in doubled) % 10


def swedish_organisation_number(rng: Random) -> str:
    """Ten digits with a valid check digit; 00 where a real one has at least 20."""
    nine = f"5500{rng.randrange(10**5):05d}"
    return f"{nine}{luhn_digit(nine)}"


def account_number(ten: str) -> str | None:
    """A Norwegian account number of its first ten digits, or None when their check digit would be 10."""
    check = -_remainder(ten, _ACCOUNT_WEIGHTS) % 11
    return None if check == 10 else f"{ten}{check}"


def broken(number: str) -> str:
    """An identity number with a wrong last digit: one wrong digit is always caught."""
    return f"{number[:-1]}{(int(number[-1]) + 1) % 10}"
