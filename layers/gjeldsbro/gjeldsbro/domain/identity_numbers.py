"""Numbers that identify people and organisations, checked without a look-up in any register (design decision 10).

A person's number is ``ddmmyy iii k1 k2`` (Skatteetaten's rules, as of the change for 2032): two check digits over
weighted sums modulo 11. The remainder of the first may be 0, and in numbers issued from 2032 also 1, 2 or 3; both kinds
are accepted side by side. A D-number has 40 added to the day, a synthetic number 80 to the month. The century cannot be
read from the number any more, so 29 February is judged on the two-digit year alone.
"""

import operator
import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from struct import Struct
from typing import Literal, NamedTuple

from gjeldsbro.domain.rules import Rule

Accepts = Literal["production", "synthetic", "format"]
"""Which customer numbers are let in: real people's, only synthetic ones, or anything of 11 digits."""

_K1_WEIGHTS = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1, 0)
_K2_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
_K1_REMAINDERS = (0, 1, 2, 3)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_D_NUMBER = 40
_SYNTHETIC = 80

# A number is judged with four table look-ups instead of 21 multiplications, which makes millions of them cheap. Each
# part of the number contributes one integer: its share of both sums modulo 11 in six bits each (four shares of at most
# 10 do not overflow), and a flag when it is 29 February or a year without one. The sum of the shares is an index into
# the verdicts. Looking up text also refuses everything that is not made of ASCII digits, and every other length.
_K2_SHIFT = 6
_SHARE = 0b111111
_LEAP_DAY = 1 << 12
_COMMON_YEAR = 1 << 13


def _share(digits: str, position: int) -> int:
    k1 = sum(int(digit) * _K1_WEIGHTS[position + i] for i, digit in enumerate(digits)) % 11
    k2 = sum(int(digit) * _K2_WEIGHTS[position + i] for i, digit in enumerate(digits)) % 11
    return k1 | k2 << _K2_SHIFT


def _days_and_months(month_mark: int) -> dict[str, int]:
    shares = {}
    for month, days in enumerate(_DAYS, start=1):
        for day in range(1, days + 1):
            flag = _LEAP_DAY if (day, month) == (29, 2) else 0
            for text in (f"{day:02}{month + month_mark:02}", f"{day + _D_NUMBER:02}{month + month_mark:02}"):
                shares[text] = _share(text, 0) | flag
    return shares


_DATES: dict[Accepts, dict[str, int]] = {
    "production": _days_and_months(0),
    "synthetic": _days_and_months(_SYNTHETIC),
}
_YEARS = {f"{n:02}": _share(f"{n:02}", 4) | (_COMMON_YEAR if n % 4 else 0) for n in range(100)}
_SERIALS = {f"{n:02}": _share(f"{n:02}", 6) for n in range(100)}
_ENDS = {f"{n:03}": _share(f"{n:03}", 8) for n in range(1000)}
_VERDICTS = tuple(
    k1 % 11 in _K1_REMAINDERS and k2 % 11 == 0 and is_in_calendar
    for is_in_calendar in (True, True, True, False)  # of the two flags: none, a leap day, a common year, both
    for k2 in range(_SHARE + 1)
    for k1 in range(_SHARE + 1)
)

_LEAP_DAYS = frozenset(date for dates in _DATES.values() for date, share in dates.items() if share & _LEAP_DAY)


def _shares(weights: tuple[int, ...]) -> list[bytes]:
    """For each position a translation of the ASCII digits into their shares of a sum modulo 11."""
    return [bytes((byte - ord("0")) * weight % 11 for byte in range(256)) for weight in weights]


_K1_SHARES, _K2_SHARES = _shares(_K1_WEIGHTS), _shares(_K2_WEIGHTS)
_K1_RIGHT = bytes(total for total in range(256) if total % 11 in _K1_REMAINDERS)
_K2_RIGHT = bytes(range(0, 256, 11))

CUSTOMER_ID_RULES = {
    "production": Rule.CUSTOMER_ID,
    "synthetic": Rule.SYNTHETIC_CUSTOMER_ID,
    "format": Rule.CUSTOMER_ID_FORM,
}

_PERSON_LENGTH = 11
_ORGANISATION_WEIGHTS = (3, 2, 7, 6, 5, 4, 3, 2, 1)
_DIGITS = re.compile("[0-9]+")
_DIVIDED_DIGITS = re.compile("[0-9]+(?:[\\s./\u2010-\u2015\u2212-]{1,3}[0-9]+)*")
_NO_PERSON = re.compile(
    "(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?![0-9a-f])"  # a UUID
    "|(?<![0-9])(?:[0-9]{2}[.-][0-9]{2}[.-](?:19|20)[0-9]{2}|(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2})(?![0-9])",  # a date
    re.IGNORECASE,
)
_ORGANISATION = re.compile(r"[0-9]{9}")
_ISO_6523 = re.compile(r"([0-9]{4}):([0-9A-Za-z-]{1,35})")
_ORGANISATION_IDENTIFIER = re.compile(
    r"(?P<register>(?:NTR|VAT)[A-Z]{2}|LEIXG|[A-Z]{2}:[A-Z]{2})-(?P<number>[!-~]{1,64})"
    r"|PSD[A-Z]{2}-[A-Z]{2,8}-[!-~]{1,64}"
)
_NORWEGIAN_PREFIXES = ("9908", "0192", "9990")
"""Peppol's older code, ISO 6523's own, and the one of SPEC appendix E for a second integration."""

_SWEDISH_PREFIX = "0007"


def is_customer_id(text: str, accepts: Accepts) -> bool:
    """Whether ``text`` is a customerID that ``accepts`` lets in: 11 ASCII digits, nothing around them."""
    if accepts == "format":
        return len(text) == 11 and text.isascii() and text.isdigit()
    try:
        return _VERDICTS[_DATES[accepts][text[:4]] + _YEARS[text[4:6]] + _SERIALS[text[6:8]] + _ENDS[text[8:]]]
    except KeyError:
        return False


def are_customer_ids(texts: Sequence[str], accepts: Accepts) -> bool:
    """Whether all of many texts are customerIDs that ``accepts`` lets in: some hundred in the time of 30 single ones.

    The digits at one position of all numbers are bytes that become shares of a weighted sum together, and sums are
    added up as whole numbers of a byte for each text: eleven shares of at most 10 do not overflow it.
    """
    digits = "".join(texts).encode(errors="replace")
    if not texts:
        return True
    if not digits.isdigit() or set(map(len, texts)) != {_PERSON_LENGTH}:
        return False
    if accepts == "format":
        return True
    columns = [digits[position::_PERSON_LENGTH] for position in range(_PERSON_LENGTH)]
    for shares, right in ((_K1_SHARES, _K1_RIGHT), (_K2_SHARES, _K2_RIGHT)):
        total = sum(int.from_bytes(column.translate(share)) for column, share in zip(columns, shares, strict=True))
        if total.to_bytes(len(texts)).translate(None, right):
            return False
    dates = {text[:4] for text in texts}
    if not dates <= _DATES[accepts].keys():
        return False
    # Leap days depend on the year too: the few numbers that have one are judged singly.
    leap_days = dates & _LEAP_DAYS
    return not leap_days or all(is_customer_id(text, accepts) for text in texts if text[:4] in leap_days)


class CustomerIdSet:
    """A set of customerIDs that one of ``kinds`` lets in (not for ``format``): a bit for each that there can be.

    It is made for millions of them and takes at most 39 MB for each kind; a Python set of five million takes
    ten times as much. The rule is that of ``is_customer_id``, with the same shares and verdicts, but nothing is cut out
    of a text: a number and a comma are 12 bytes, and those are three integers. They look up day and month, year and two
    digits of the serial, and the rest. A number's bit is that of its first nine digits and of the remainder of the
    first check digit: the check digits follow from them.
    """

    def __init__(self, *kinds: Accepts) -> None:
        # Unlike a bytearray's, these zeros take time and memory only where something is written: short lists are many.
        self._dates = {
            date: (share, middles, mmap(-1, _BYTES_OF_A_DATE, flags=MAP_PRIVATE | MAP_ANONYMOUS))
            for kind in kinds
            for date, (share, middles) in _cells().dates[kind].items()
        }

    def add(self, texts: Sequence[str]) -> int:
        """Add customerIDs up to the first text that is none or was added before; how many. No text holds a comma."""
        dates, ends, bit_of = self._dates, _cells().ends, _cells().bits
        joined = (",".join(texts) + ",").encode()
        # As no text holds a comma, each cell is a text up to the first cell that is no number.
        cells = _CELL.iter_unpack(joined[: len(joined) // _CELL.size * _CELL.size])
        whole = operator.length_hint(cells)
        try:
            for date, middle, end in cells:
                share, middles, bits = dates[date]
                total = share + middles[middle] + ends[end]
                bit = bit_of[total & _LOW]
                at = total >> _PLACE
                held = bits[at]
                if held & bit:
                    break
                bits[at] = held | bit
            else:
                return whole
        except KeyError:
            pass
        return whole - operator.length_hint(cells) - 1


class _Cells(NamedTuple):
    """Tables for numbers in cells of 12 bytes: what each part of a cell adds to a total of 30 bits at most.

    Low in a total are the shares and whether the ninth digit is odd, which ``bits`` turns into a bit: one of four for
    the remainder, in the upper half of a byte for an odd digit. High is the byte's place among those of the date, by
    the year, the first two digits of the serial and half of the ninth digit. (Python adds larger numbers more slowly.)
    """

    dates: dict[Accepts, dict[int, tuple[int, dict[int, int]]]]
    ends: dict[int, int]
    bits: dict[int, int]


_CELL = Struct("=III")
_SHARES = _LEAP_DAY - 1
_ODD = _LEAP_DAY
_LOW = _ODD | _SHARES
_PLACE = _LOW.bit_length()
_NINTHS = 5
"""Bytes for the ninth digits: two digits share one."""

_BYTES_OF_A_DATE = 100 * 100 * _NINTHS


@lru_cache(maxsize=None)
def _cells() -> _Cells:
    """Made when they are needed first, not by each import."""

    def integer(text: str) -> int:
        return int.from_bytes(text.encode(), sys.byteorder)

    def middles(unwanted: int) -> dict[int, int]:
        return {
            integer(year + serial): int(year + serial) * _NINTHS << _PLACE | (share + more) & _SHARES
            for year, share in _YEARS.items()
            if not share & unwanted
            for serial, more in _SERIALS.items()
        }

    all_years, leap_years = middles(0), middles(_COMMON_YEAR)
    dates = {
        kind: {
            integer(date): (share & _SHARES, leap_years if share & _LEAP_DAY else all_years)
            for date, share in of_kind.items()
        }
        for kind, of_kind in _DATES.items()
    }
    ends = {
        integer(end + ","): int(end[0]) // 2 << _PLACE | int(end[0]) % 2 * _ODD | share for end, share in _ENDS.items()
    }
    bits = {
        shares | odd * _ODD: 1 << odd * len(_K1_REMAINDERS) + _K1_REMAINDERS.index((shares & _SHARE) % 11)
        for shares in range(_SHARES + 1)
        if _VERDICTS[shares]
        for odd in (0, 1)
    }
    return _Cells(dates, ends, bits)


def customer_id_fault(text: str, accepts: Accepts) -> Rule | None:
    """The rule that ``text`` breaks as a customerID (SPEC 4.2.2), or None."""
    return None if is_customer_id(text, accepts) else CUSTOMER_ID_RULES[accepts]


def mentions_a_person(text: str) -> bool:
    """Whether free text holds what looks like an identity number, in any digits and however it is divided.

    Eleven digits in one, six and five, or divided behind a date of birth need not be right: the text is no place for
    them. Divided in another way, they are taken for a person's only with the right check digits, because references
    and times are written so too.
    Longer numbers are none: an AWS account has 12 digits.
    """
    plain = "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character
        for character in unicodedata.normalize("NFKC", text)
    )
    for divided in _DIVIDED_DIGITS.findall(_NO_PERSON.sub("x", plain)):
        groups = _DIGITS.findall(divided)
        if any(_is_a_person(groups[start:]) for start in range(len(groups))):
            return True
    return False


def _is_a_person(groups: list[str]) -> bool:
    """Whether these groups of digits begin with an identity number."""
    digits = ""
    begins_with_date = False
    for count, group in enumerate(groups, start=1):
        digits += group
        if len(digits) == len("ddmmyy"):
            begins_with_date = any(digits[:4] in dates for dates in _DATES.values())
        if len(digits) >= _PERSON_LENGTH:
            is_usual = count == 1 or (count == 2 and len(group) == len("iiikk"))
            is_right = is_customer_id(digits, "production") or is_customer_id(digits, "synthetic")
            return len(digits) == _PERSON_LENGTH and (is_usual or begins_with_date or is_right)
    return False


def with_check_digits(first_nine: str, remainder: int = 0) -> str | None:
    """The number that begins with these nine digits, or None when none is issued (a check digit would be 10).

    ``remainder`` is that of the first check digit: 0 by the old rule, 0 to 3 by that of 2032.
    """
    k1 = (remainder - sum(int(digit) * weight for digit, weight in zip(first_nine, _K1_WEIGHTS, strict=False))) % 11
    first_ten = f"{first_nine}{k1}"
    k2 = -sum(int(digit) * weight for digit, weight in zip(first_ten, _K2_WEIGHTS, strict=False)) % 11
    return None if 10 in (k1, k2) else f"{first_ten}{k2}"


def is_organisation_number(text: str) -> bool:
    """Whether ``text`` is a Norwegian organisation number: nine ASCII digits, the last one by modulo 11."""
    if _ORGANISATION.fullmatch(text) is None:
        return False
    return sum(int(digit) * weight for digit, weight in zip(text, _ORGANISATION_WEIGHTS, strict=True)) % 11 == 0


def organisation_number_fault(text: str) -> Rule | None:
    """The rule that ``text`` breaks as a Norwegian organisation number, or None."""
    return None if is_organisation_number(text) else Rule.ORGANISATION_NUMBER


def provider_fault(text: str) -> Rule | None:
    """The rule that ``text`` breaks as a providerID (SPEC 4.2.1 and appendix E), or None.

    ``9908:``, ``0192:`` and ``9990:`` stand before a Norwegian organisation number, whose check digit must be right. An
    id after another ISO 6523 prefix is 1 to 35 letters, digits and hyphens; what it means is up to its country.
    """
    return None if _is_iso_6523(text) else Rule.PROVIDER


def institution_fault(text: str) -> Rule | None:
    """The rule that ``text`` breaks as a financialInstitutionID (SPEC 4.2.2 and appendix E), or None."""
    return None if is_organisation_number(text) or _is_iso_6523(text) else Rule.INSTITUTION


def may_mean_institution(value: object, institution: str) -> bool:
    """Whether what a provider writes as a financialInstitutionID means ``institution``, our name of it.

    SPEC 4.2.2 wants a foreign institution's prefix, its appendix E leaves it out, and its 4.5 shows a Norwegian number
    with one. Of the institution that a provider was asked about, all of these say the same.
    """
    if not isinstance(value, str):
        return False
    prefix, _, number = value.rpartition(":")
    own_prefix, _, own_number = institution.rpartition(":")
    if number != own_number:
        return False
    return prefix in ("", own_prefix) or (own_prefix == "" and prefix in _NORWEGIAN_PREFIXES)


def organisation_identifiers(identifier: str) -> frozenset[str]:
    """What the certificate of an organisation names it as (ETSI EN 319 412-1, 5.1.4), from our name of it.

    ``identifier`` is a providerID, a financialInstitutionID or an organisation number. A number of the Norwegian or the
    Swedish register of organisations gives one ``NTR`` identifier; of other prefixes it is not known which register
    they mean, so nothing follows from them.
    """
    prefix, colon, number = identifier.rpartition(":")
    if not colon or prefix in _NORWEGIAN_PREFIXES:
        return frozenset({f"NTRNO-{number}"})
    return frozenset({f"NTRSE-{number}"}) if prefix == _SWEDISH_PREFIX else frozenset()


def organisation_identifier_fault(text: str) -> Rule | None:
    """The rule that ``text`` breaks as an organizationIdentifier (ETSI EN 319 412-1, 5.1.4), or None.

    A register (national trade register, tax, LEI, or one of a country's own) and a number of it; for a payment service
    provider (``PSD``) the authority that authorised it stands between them. Only Norwegian numbers can be checked.
    """
    match = _ORGANISATION_IDENTIFIER.fullmatch(text)
    if match is None or (match["register"] == "NTRNO" and not is_organisation_number(match["number"])):
        return Rule.ORGANISATION_IDENTIFIER
    return None


def _is_iso_6523(text: str) -> bool:
    match = _ISO_6523.fullmatch(text)
    if match is None:
        return False
    prefix, number = match.groups()
    return prefix not in _NORWEGIAN_PREFIXES or is_organisation_number(number)
