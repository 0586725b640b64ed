"""Synthetic institutions in the setups of SPEC appendix C and E."""

from dataclasses import dataclass
from typing import Literal

from gjeldsbro_population.identity import organisation_number, swedish_organisation_number
from gjeldsbro_population.seeds import stream

Kind = Literal["bank", "loans", "cards"]

_NAMES = ("Sparebanken Ås", "Lånebanken", "Kortbanken", "Fjordkreditt", "Øybanken", "Nordlysbanken", "Skärgårdsbanken")


@dataclass(frozen=True, slots=True)
class SyntheticInstitution:
    """An institution and who delivers its data.

    ``institution`` is SPEC's financialInstitutionID, ``providers`` its providerIDs. With two providers the first one
    delivers repayment loans and the second the cards. ``kind`` says which loans it grants.
    """

    institution: str
    name: str
    providers: tuple[str, ...]
    kind: Kind = "bank"


def make_institutions(seed: int, count: int) -> tuple[SyntheticInstitution, ...]:
    """``count`` institutions; the first seven show each setup once and later ones repeat the ordinary ones.

    0-2: a bank, a lender and a card issuer that deliver for themselves. 3 and 4: two that share a service provider.
    5: one with two integrations (``9908:`` and ``9990:``). 6: a foreign one (``0007:`` and ten digits).
    """
    rng = stream(seed, "institutions")
    numbers: list[str] = []
    while len(numbers) < count + 1:
        number = organisation_number(rng)
        if number not in numbers:
            numbers.append(number)
    shared_provider = f"9908:{numbers.pop()}"
    foreign = f"0007:{swedish_organisation_number(rng)}"
    kinds: tuple[Kind, ...] = ("bank", "loans", "cards", "loans", "bank", "bank", "cards")
    institutions = []
    for index, number in enumerate(numbers):
        providers: tuple[str, ...] = (f"9908:{number}",)
        identifier = number
        if index in (3, 4):
            providers = (shared_provider,)
        elif index == 5:
            providers = (f"9908:{number}", f"9990:{number}")
        elif index == 6:
            identifier, providers = foreign, (foreign,)
        name = f"{_NAMES[index % len(_NAMES)]} {index + 1}"
        institutions.append(SyntheticInstitution(identifier, name, providers, kinds[index % len(kinds)]))
    return tuple(institutions)
