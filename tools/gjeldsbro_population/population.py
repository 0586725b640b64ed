"""The population: who is a customer where, with which loans, on which night."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from itertools import islice
from random import Random
from typing import Any

from gjeldsbro_population import expectation
from gjeldsbro_population.identity import customer_ids
from gjeldsbro_population.institutions import SyntheticInstitution, make_institutions
from gjeldsbro_population.loans import (
    LOANS_PER_PERSON,
    SHARED,
    Loan,
    account_id,
    altered,
    loan_types,
    make_loan,
    repaid,
)
from gjeldsbro_population.seeds import stream

Dataset = tuple[str, str]
"""(financialInstitutionID, providerID)."""

FIRST_EXTRACTION = datetime(2026, 1, 5, 1, 30, tzinfo=UTC)

_INSTITUTIONS_OF_A_PERSON = ((0, 18), (1, 46), (2, 20), (3, 10), (4, 4), (5, 2))
_CUSTOMER_WITHOUT_LOANS = 0.08
_SHARED_LOAN = 0.10
_FRACTION_DIGITS = (0, 3, 6, 7)
_NORWEGIAN_WINTER = timezone(timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Changes:
    """How one dataset differs from the night before, counted in customers that have loans there."""

    added: int
    changed: int
    removed: int
    unchanged: int


class Population:
    """``people`` persons, their institutions and loans, decided by ``seed`` alone.

    ``institutions`` is a number (see ``make_institutions``) or the institutions themselves. ``extracted_at`` is the
    aware moment when the first institution begins to extract its dataset; every loan's timestamp lies within the hour
    after it. Persons 2k and 2k+1 may share a repayment loan: the first has a co-borrower, the second is one.
    """

    def __init__(
        self,
        seed: int,
        people: int = 1000,
        institutions: int | Sequence[SyntheticInstitution] = 8,
        *,
        extracted_at: datetime = FIRST_EXTRACTION,
    ) -> None:
        self.seed = seed
        self.people = people
        self.night = 1
        self.extracted_at = extracted_at.astimezone(UTC)
        self.institutions = (
            make_institutions(seed, institutions) if isinstance(institutions, int) else tuple(institutions)
        )
        self.datasets: tuple[Dataset, ...] = tuple(
            (institution.institution, provider)
            for institution in self.institutions
            for provider in institution.providers
        )
        self.customer_ids: tuple[str, ...] = tuple(islice(customer_ids(stream(seed, "customers")), people))
        self.changes: Mapping[Dataset, Changes] = {}
        """Per dataset, what ``changed`` did to it; empty on the first night."""
        self._altered: dict[int, dict[int, list[Loan] | None]] = {}

    # --- what institutions deliver ------------------------------------------------------------------------------

    def customers(
        self, institution: str, provider: str, start: int = 0, stop: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The dataset's customers from number ``start`` up to ``stop`` as SPEC 4.2.2 dicts, numbers as int."""
        dataset = self._position(institution, provider)
        for person in self._members[dataset][start:stop]:
            yield {
                "customerID": self.customer_ids[person],
                "financialInstitutionID": institution,
                "loans": self._with_timestamps(person, dataset, self._loans(person).get(dataset, [])),
            }

    def count(self, institution: str, provider: str) -> int:
        """The number of customers in the dataset, those without loans included."""
        return len(self._members[self._position(institution, provider)])

    def count_with_loans(self, institution: str, provider: str) -> int:
        """The number of the dataset's customers that have at least one loan in it."""
        return sum(1 for customer in self.customers(institution, provider) if customer["loans"])

    def customer(self, institution: str, provider: str, customer_id: str) -> dict[str, Any] | None:
        """One customer of the dataset, or None."""
        person = self._person.get(customer_id)
        dataset = self._position(institution, provider)
        if person is None or dataset not in self._loans(person):
            return None
        loans = self._with_timestamps(person, dataset, self._loans(person)[dataset])
        return {"customerID": customer_id, "financialInstitutionID": institution, "loans": loans}

    # --- what a register must say -------------------------------------------------------------------------------

    def expected_loans(
        self,
        customer_id: str,
        *,
        pushed: Iterable[Mapping[str, Any]] = (),
        instead: Mapping[Dataset, "Population | None"] | None = None,
    ) -> dict[str, list[Loan]]:
        """The loans that count as debt, per financialInstitutionID; institutions without any are left out.

        ``pushed``: accepted push messages (SPEC 4.2.1) newer than the datasets, in the order in which they were sent.
        ``instead``: for datasets that were not loaded tonight, the population whose data is still in use (None: no
        data).
        """
        loans: list[tuple[str, Loan]] = []
        for institution, provider in self.datasets:
            population = (instead or {}).get((institution, provider), self)
            customer = population and population.customer(institution, provider, customer_id)
            if customer:
                loans.extend((institution, loan) for loan in customer["loans"])
        return expectation.debt(loans, expectation.pushed_loans(pushed, customer_id))

    def expected_package(
        self,
        numbers: Iterable[str],
        *,
        pushed: Iterable[Mapping[str, Any]] = (),
        instead: Mapping[Dataset, "Population | None"] | None = None,
    ) -> dict[str, list[expectation.PackagedLoan]]:
        """What a package for ``numbers`` must hold, in the form of ``package_content``; strangers have no loans."""
        messages = list(pushed)
        return {
            number: expectation.packaged(
                loan
                for loans in self.expected_loans(number, pushed=messages, instead=instead).values()
                for loan in loans
            )
            for number in numbers
        }

    def expected_lookup(
        self, customer_id: str, *, live: "Population", down: Iterable[str] = ()
    ) -> list[tuple[str, expectation.PackagedLoan]]:
        """What a lookup must tell, in the form of ``expectation.disclosed``, when this population is in the register.

        Every institution at which the register has debt is asked and answers from ``live``, but for those that are
        ``down``: what the register has of them is told instead.
        """
        now = live.expected_loans(customer_id)
        told = []
        for institution, loans in self.expected_loans(customer_id).items():
            source, known = ("register", loans) if institution in down else ("institution", now.get(institution, []))
            told += [(source, loan) for loan in expectation.packaged(known)]
        return sorted(told)

    # --- what happens afterwards --------------------------------------------------------------------------------

    def changed(self, night: int = 2, percent: float = 1, *, extracted_at: datetime | None = None) -> "Population":
        """The population on a later night: ``percent`` of the (customer, dataset) pairs with loans differ.

        Of these pairs 60 % have other figures or one more loan, 20 % are gone (half of them as customers without
        loans) and as many as 20 % are new; ``changes`` counts them. A loan that two persons share never changes. All
        timestamps are of the new extraction, by default a day after this one. Pushes are not known to later nights.
        """
        later = Population(self.seed, self.people, self.institutions, extracted_at=self.extracted_at)
        later.night = night
        later.extracted_at = (extracted_at or self.extracted_at + timedelta(days=night - self.night)).astimezone(UTC)
        later._altered = {person: dict(datasets) for person, datasets in self._altered.items()}
        rng = stream(self.seed, "night", night)
        pairs = [
            (person, dataset)
            for person in range(self.people)
            for dataset, loans in self._loans(person).items()
            if loans
        ]
        before = Counter(dataset for _, dataset in pairs)
        total = round(len(pairs) * percent / 100)
        fifth = total // 5
        rng.shuffle(pairs)
        removable = (pair for pair in pairs if not any(loan["coBorrower"] for loan in self._loans(pair[0])[pair[1]]))
        removed = list(islice(removable, fifth))
        gone = set(removed)
        changed = list(islice((pair for pair in pairs if pair not in gone), total - 2 * fifth))
        added = self._new_pairs(rng, fifth)
        for number, (person, dataset) in enumerate(removed):
            later._alter(person, dataset, [] if number % 2 else None)
        for person, dataset in changed:
            later._alter(person, dataset, self._other_figures(rng, person, dataset, night))
        for person, dataset in added:
            later._alter(person, dataset, [self._one_more(rng, person, dataset, night)])
        more, other, fewer = (Counter(dataset for _, dataset in kind) for kind in (added, changed, removed))
        later.changes = {
            name: Changes(
                added=more[dataset],
                changed=other[dataset],
                removed=fewer[dataset],
                unchanged=before[dataset] - other[dataset] - fewer[dataset],
            )
            for dataset, name in enumerate(self.datasets)
        }
        return later

    def pushes(self, institution: str, provider: str, at: datetime, count: int = 3) -> list[dict[str, Any]]:
        """Push messages of this provider about ``count`` customers: in turn a new loan, other figures, a loan repaid.

        ``at`` is the aware timestamp of all their loans. Numbers are strings. Loans that two persons share stay as they
        are.
        """
        dataset = self._position(institution, provider)
        timestamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        messages: list[dict[str, Any]] = []
        for person in self._members[dataset]:
            alone = [loan for loan in self._loans(person)[dataset] if not loan["coBorrower"]]
            if len(messages) == count:
                break
            if not alone:
                continue
            rng = stream(self.seed, "push", self.night, person, dataset)
            match len(messages) % 3:
                case 0:
                    loan = self._one_more(rng, person, dataset, self.night + 1)
                case 1:
                    loan = altered(rng, alone[0])
                case _:
                    loan = repaid(alone[0])
            wire = {key: str(value) for key, value in {**loan, "timestamp": timestamp}.items()}
            customer = {
                "customerID": self.customer_ids[person],
                "financialInstitutionID": institution,
                "loans": [wire],
            }
            messages.append({"providerID": provider, "customers": [customer]})
        return messages

    # --- how it is made -----------------------------------------------------------------------------------------

    @cached_property
    def _person(self) -> dict[str, int]:
        return {number: person for person, number in enumerate(self.customer_ids)}

    @cached_property
    def _positions(self) -> dict[Dataset, int]:
        return {dataset: position for position, dataset in enumerate(self.datasets)}

    @cached_property
    def _members(self) -> list[list[int]]:
        members: list[list[int]] = [[] for _ in self.datasets]
        for person in range(self.people):
            for dataset in self._loans(person):
                members[dataset].append(person)
        return members

    @cached_property
    def _weights(self) -> list[float]:
        return [1 / (index + 1) ** 0.7 for index in range(len(self.institutions))]

    def _position(self, institution: str, provider: str) -> int:
        return self._positions[institution, provider]

    def _dataset_of(self, index: int, loan_type: str) -> int:
        """Which of the institution's datasets holds loans of this type."""
        institution = self.institutions[index]
        provider = institution.providers[0 if loan_type == "repaymentLoan" else -1]
        return self._position(institution.institution, provider)

    def _loans(self, person: int) -> dict[int, list[Loan]]:
        """The person's loans per dataset tonight; a customer without loans has an empty list."""
        loans = self._first_night(person)
        for dataset, tonight in self._altered.get(person, {}).items():
            if tonight is None:
                loans.pop(dataset, None)
            else:
                loans[dataset] = tonight
        return loans

    def _first_night(self, person: int) -> dict[int, list[Loan]]:
        rng = stream(self.seed, "person", person)
        loans: dict[int, list[Loan]] = {}
        ordinal = 0
        for index in self._some_institutions(rng):
            for loan_type in loan_types(rng, self.institutions[index].kind):
                account = account_id(rng, loan_type, index, person, ordinal)
                loans.setdefault(self._dataset_of(index, loan_type), []).append(make_loan(rng, loan_type, account))
                ordinal += 1
        if rng.random() < _CUSTOMER_WITHOUT_LOANS:
            loans.setdefault(rng.randrange(len(self.datasets)), [])
        self._add_shared_loan(person, loans)
        return loans

    def _some_institutions(self, rng: Random) -> list[int]:
        """Distinct institutions, the large ones more often."""
        numbers, weights = zip(*_INSTITUTIONS_OF_A_PERSON, strict=True)
        wanted = min(rng.choices(numbers, weights)[0], len(self.institutions))
        chosen: list[int] = []
        while len(chosen) < wanted:
            index = rng.choices(range(len(self.institutions)), self._weights)[0]
            if index not in chosen:
                chosen.append(index)
        return chosen

    def _add_shared_loan(self, person: int, loans: dict[int, list[Loan]]) -> None:
        """The repayment loan that persons 2k and 2k+1 share, if they do: the same account, both report all of it."""
        first = person - person % 2
        rng = stream(self.seed, "pair", first)
        lenders = [index for index, institution in enumerate(self.institutions) if institution.kind != "cards"]
        if first + 1 >= self.people or not lenders or rng.random() >= _SHARED_LOAN:
            return
        index = rng.choice(lenders)
        loan = make_loan(rng, "repaymentLoan", account_id(rng, "repaymentLoan", index, first, SHARED))
        loan["coBorrower"] = 2 if person == first else 1
        loans.setdefault(self._dataset_of(index, "repaymentLoan"), []).append(loan)

    def _alter(self, person: int, dataset: int, loans: list[Loan] | None) -> None:
        self._altered.setdefault(person, {})[dataset] = loans

    def _new_pairs(self, rng: Random, count: int) -> list[tuple[int, int]]:
        """Pairs of persons and datasets in which they have no loan today."""
        pairs: dict[tuple[int, int], None] = {}
        while len(pairs) < count:
            person, dataset = rng.randrange(self.people), rng.randrange(len(self.datasets))
            if not self._loans(person).get(dataset):
                pairs[person, dataset] = None
        return list(pairs)

    def _other_figures(self, rng: Random, person: int, dataset: int, night: int) -> list[Loan]:
        """The person's loans in the dataset with one of them altered, or one more where all of them are shared."""
        loans = list(self._loans(person)[dataset])
        alone = [position for position, loan in enumerate(loans) if not loan["coBorrower"]]
        if alone and rng.random() < 0.85:
            position = rng.choice(alone)
            loans[position] = altered(rng, loans[position])
        else:
            loans.append(self._one_more(rng, person, dataset, night))
        return loans

    def _one_more(self, rng: Random, person: int, dataset: int, night: int) -> Loan:
        """A new loan of a type that this dataset holds; its account id is new on every night of the first 23."""
        institution, _ = self.datasets[dataset]
        index = next(i for i, candidate in enumerate(self.institutions) if candidate.institution == institution)
        types = [
            loan_type
            for loan_type in ("repaymentLoan", "creditFacility", "chargeCard")
            if self._dataset_of(index, loan_type) == dataset
        ]
        loan_type = rng.choice(types)
        ordinal = SHARED + 1 + night % (LOANS_PER_PERSON - SHARED - 1)
        return make_loan(rng, loan_type, account_id(rng, loan_type, index, person, ordinal))

    def _with_timestamps(self, person: int, dataset: int, loans: list[Loan]) -> list[Loan]:
        """The loans as tonight's extraction gives them: 0, 3, 6 or 7 fractional digits, some with an offset."""
        moment = self.extracted_at + timedelta(minutes=dataset % 30, seconds=person * 7 % 1800)
        digits = _FRACTION_DIGITS[dataset % 4]
        offset = "Z"
        if dataset % 5 == 4:
            moment, offset = moment.astimezone(_NORWEGIAN_WINTER), "+01:00"
        fraction = f".{(person * 7919 + self.night) % 10**7:07d}"[: digits + 1] if digits else ""
        timestamp = f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{offset}"
        return [{"type": loan["type"], "timestamp": timestamp, **loan} for loan in loans]
