"""What a package says of customers of institutions that are always asked: all of it, at a pace, or nothing."""

import json
from collections import Counter
from dataclasses import replace
from threading import Lock

import pytest
from tests.unit.export_world import NOW, OTHER, RECEIVER, RUN, MemoryPartners, MemoryStore, receiver

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import RepaymentLoan
from gjeldsbro.domain.register import DatasetItem, PushItem, StoredItem
from gjeldsbro.errors import InstitutionUnavailableError, RefusedError
from gjeldsbro.services.export import loans as export_loans
from gjeldsbro.services.export.build import Progress, build_package_slice
from gjeldsbro.services.export.loans import PackageLoans
from gjeldsbro.services.export.plan import plan_export
from gjeldsbro.services.ports import DatasetTime, Institution, Provider
from gjeldsbro_population import Population

KEYS = HashKeys.of(HashKey("1", b"k" * 32))
PEOPLE = Population(120, people=120, institutions=1).customer_ids
A, B, C, D = PEOPLE[:4]
LIVE, STORED, BOTH = "920013015", "985815534", "974760673"
URL = "https://fi.example.no"
STAMP = "2026-09-30T03:00:00.0000000Z"


def loan(account: str, balance: int = 100) -> RepaymentLoan:
    """A loan that is debt."""
    return RepaymentLoan(account, STAMP, None, 1000, balance, 12, 1000, 0, 0)


def provider_of(institution: str) -> str:
    """Each institution delivers for itself."""
    return f"9908:{institution}"


class Surroundings:
    """The register, institutions in all modes, their answers, the breaker and the pace; fulfils all their ports."""

    def __init__(self) -> None:
        self.known = {
            LIVE: Institution(LIVE, "x", providers=(Provider(provider_of(LIVE), URL, dataset="ssn"),), lookup="live"),
            STORED: Institution(STORED, "x", providers=(Provider(provider_of(STORED), URL),), lookup="stored"),
            BOTH: Institution(BOTH, "x", providers=(Provider(provider_of(BOTH), URL),), lookup="both"),
        }
        self.as_of: dict[str, str | None] = dict.fromkeys(self.known, STAMP)
        self.held: dict[bytes, list] = {}
        self.answers: dict[tuple[str, str], tuple | Exception] = {}
        self.asked: list[tuple[str, str]] = []
        self.told: list[tuple[str, str]] = []
        self.turns: list[str] = []
        self.open: set[str] = set()
        self.full = False
        self.seconds = 900.0
        self.now = 1_000_000.0
        self.slept = 0.0
        self.lock = Lock()

    def hold(self, customer: str, institution: str, *loans: RepaymentLoan, push: bool = False) -> None:
        """Put a dataset's item of a customer, or a push, into the register."""
        items = self.held.setdefault(customer, [])
        if push:
            items += [PushItem(institution, provider_of(institution), one) for one in loans]
        else:
            items.append(DatasetItem(institution, provider_of(institution), loans))

    # Ports

    newest_version = 1

    def institutions(self):
        """All of them."""
        return list(self.known.values())

    def dataset_times(self):
        """When each dataset was made."""
        return [DatasetTime(name, provider_of(name), at) for name, at in self.as_of.items()]

    def items_of_many(self, customers):
        """What is stored."""
        return [[StoredItem(1, item) for item in self.held.get(customer, [])] for customer in customers]

    def ask(self, provider, institution, customer_id, deadline):
        """What the institution answers."""
        with self.lock:
            self.asked.append((institution, customer_id))
        answer = self.answers.get((institution, customer_id), ())
        if isinstance(answer, Exception):
            raise answer
        return answer

    def may_ask(self, institution, provider, now, *, fair=True):
        """Whether the breaker is closed."""
        return fair and institution not in self.open

    def failed(self, institution, provider, now):
        """Told of a failure."""
        self.told.append(("failed", institution))

    def answered(self, institution, provider, now):
        """Told of an answer."""
        self.told.append(("answered", institution))

    def turn(self, provider, now, latest):
        """The next turn, 40 ms after the last; none when others keep the provider busy."""
        with self.lock:
            self.turns.append(provider)
        return None if self.full else now + 0.04

    def sleep(self, seconds):
        """Time goes on."""
        with self.lock:
            self.slept += seconds
            self.now += seconds

    @property
    def loans(self) -> PackageLoans:
        """What is tested."""
        return PackageLoans(
            self, self, self, self, self, lambda: self.seconds, clock=lambda: self.now, sleep=self.sleep
        )

    def read(self, *customers: str) -> list[dict[str, list[str]]]:
        """The accounts per institution of each customer."""
        return [
            {name: [current.loan.account_id for current in held] for name, held in found.items() if held}
            for some in self.loans.read(customers)
            for found in some
        ]


@pytest.fixture
def around() -> Surroundings:
    """A customer of each institution, one of all, and one of none."""
    around = Surroundings()
    around.hold(A, LIVE)
    around.hold(B, STORED, loan("s1"))
    around.hold(C, BOTH, loan("b1"))
    around.hold(C, LIVE)
    around.hold(C, STORED, loan("s2"))
    around.answers = {(LIVE, A): (loan("l1"),), (LIVE, C): (loan("l2"), loan("l3", 0))}
    return around


def test_exactly_the_customers_of_the_index_are_asked_for_and_only_there(around) -> None:
    """Of all others the register's word counts, and nobody is asked; a loan that is no debt is not shown."""
    assert around.read(A, B, C, D) == [
        {LIVE: ["l1"]},
        {STORED: ["s1"]},
        {LIVE: ["l2"], STORED: ["s2"], BOTH: ["b1"]},
        {},
    ]
    assert sorted(around.asked) == sorted([(LIVE, A), (LIVE, C)])


def test_without_an_institution_that_is_always_asked_nothing_changes(around) -> None:
    """No question, no turn, no look at the time: the register alone, many customers at once."""
    around.known[LIVE] = replace(around.known[LIVE], lookup="both")
    around.held = {key: [item for item in items if item.loans] for key, items in around.held.items()}
    around.seconds = 0.0
    assert len(list(around.loans.read(PEOPLE))) == 1
    assert (around.asked, around.turns) == ([], [])


def test_an_answer_replaces_what_is_stored_and_none_is_an_answer(around) -> None:
    """A push of an institution that is always asked says that it may have debt there, and nothing of how much."""
    around.hold(D, LIVE, loan("pushed"), push=True)
    assert around.read(D) == [{}]
    assert around.asked == [(LIVE, D)]


def test_a_provider_that_cannot_be_asked_is_in_the_package_beside_the_others_answers(around) -> None:
    """Nobody's answer tells of its loans: the register's word on them is all that there is."""
    other = Provider("9909:920013015", dataset_url=URL)
    around.known[LIVE] = replace(around.known[LIVE], providers=(*around.known[LIVE].providers, other))
    around.held[A].append(DatasetItem(LIVE, other.provider, (loan("l7"),)))
    assert around.read(A) == [{LIVE: ["l1", "l7"]}]
    around.answers[LIVE, A] = ()
    assert around.read(A) == [{LIVE: ["l7"]}]


@pytest.mark.parametrize(
    "failure", [InstitutionUnavailableError("HTTP 503"), RefusedError("HTTP 403"), ValueError("a fault of ours")]
)
def test_a_customer_who_could_not_be_asked_for_keeps_the_package_back(around, failure) -> None:
    """Debt that is missing would look like no debt: the error names the institution, and no customer."""
    around.answers[LIVE, C] = failure
    with pytest.raises(InstitutionUnavailableError, match=LIVE) as caught:
        around.read(A, B, C, D)
    assert not any(customer in str(caught.value) for customer in PEOPLE)


def test_an_institution_that_keeps_failing_is_left_alone(around) -> None:
    """The breaker of the lookups counts here too; nobody is asked while it is open, and the package waits."""
    around.open = {LIVE}
    with pytest.raises(InstitutionUnavailableError):
        around.read(A)
    assert around.asked == []


def test_failures_and_answers_are_told_to_the_breaker(around) -> None:
    """What the export finds out, lookups need not find out again."""
    around.read(A)
    around.answers[LIVE, A] = InstitutionUnavailableError("HTTP 503")
    with pytest.raises(InstitutionUnavailableError):
        around.read(A)
    assert around.told == [("answered", LIVE), ("failed", LIVE)]


def test_every_question_waits_for_its_turn(around) -> None:
    """One turn of its provider for each question, retries of the client aside."""
    for customer in PEOPLE:
        around.hold(customer, LIVE)
    around.read(*PEOPLE)
    assert around.turns == [provider_of(LIVE)] * len(around.asked)
    assert Counter(customer for _, customer in around.asked).most_common(1)[0][1] == 1
    assert around.slept > 0


def test_a_provider_that_others_keep_busy_is_no_failure(around) -> None:
    """The slice is continued later; the breaker hears nothing of it."""
    around.full = True
    assert around.read(B, A) == []
    assert around.told == []
    assert around.slept >= export_loans.TURN_SECONDS - 4


def test_an_index_is_asked_about_though_the_mode_has_been_changed_since(around) -> None:
    """Until the first dataset of loans is accepted, nobody else knows them; if it cannot be asked, no package."""
    around.known[LIVE] = replace(around.known[LIVE], lookup="stored")
    assert around.read(A) == [{LIVE: ["l1"]}]
    provider = Provider(provider_of(LIVE), dataset_url=URL)
    around.known[LIVE] = replace(around.known[LIVE], providers=(provider,))
    with pytest.raises(InstitutionUnavailableError):
        around.read(A)


def test_everybody_is_asked_for_while_there_is_no_index(around) -> None:
    """SPEC appendix B, use case 2: nobody knows whose institution it is but itself."""
    around.as_of[LIVE] = None
    around.held.clear()
    around.answers[LIVE, D] = (loan("l9"),)
    assert around.read(A, D) == [{LIVE: ["l1"]}, {LIVE: ["l9"]}]


def test_an_ended_institution_is_not_asked(around) -> None:
    """Its data goes with the run that withdraws it; of an index nothing is known meanwhile, so there is no package."""
    around.known[LIVE] = replace(around.known[LIVE], ended=True)
    with pytest.raises(InstitutionUnavailableError):
        around.read(A)
    assert around.asked == []


# The slice


class Slices:
    """A run with one batch of all people, each a customer of the institution that is always asked."""

    def __init__(self) -> None:
        self.store, self.around = MemoryStore(), Surroundings()
        partners = MemoryPartners(receiver(on_behalf_of=(OTHER,)))
        plan_export(run=RUN, started_at=NOW, request={}, partners=partners, store=self.store)
        self.prefix = f"runs/export/{RUN}/{RECEIVER}/{OTHER}/"
        self.store.put(f"{self.prefix}numbers/00000", "\n".join(PEOPLE).encode())
        for number, customer in enumerate(PEOPLE):
            self.around.hold(customer, LIVE)
            self.around.answers[LIVE, customer] = (loan(f"l{number}"),)

    def build(self) -> Progress:
        """One call."""
        return build_package_slice(
            run=RUN,
            receiver=RECEIVER,
            on_behalf_of=OTHER,
            batch=0,
            store=self.store,
            loans=self.around.loans,
            keys=KEYS,
        )


def test_a_slice_is_continued_where_the_time_was_up() -> None:
    """Each call asks for some at least, nobody is asked for twice, and the slice is that of a single call."""
    whole, slices = Slices(), Slices()
    assert whole.build() == Progress(True, len(PEOPLE), len(PEOPLE))
    slices.around.seconds = 0.0
    calls = 1
    while not slices.build().complete:
        calls += 1
        assert f"{slices.prefix}texts/00000.json" in slices.store.objects
    assert calls == -(-len(PEOPLE) // export_loans.ASKED_TOGETHER)
    assert sorted(slices.around.asked) == sorted((LIVE, customer) for customer in PEOPLE)
    assert slices.store.objects == whole.store.objects
    assert slices.build() == Progress(True, len(PEOPLE), len(PEOPLE))


def test_what_was_answered_before_a_failure_is_not_asked_for_again() -> None:
    """The machine retries: it goes on where the institution stopped to answer."""
    slices = Slices()
    last = PEOPLE[-1]
    answer = slices.around.answers[LIVE, last]
    slices.around.answers[LIVE, last] = InstitutionUnavailableError("HTTP 503")
    for _ in range(2):
        with pytest.raises(InstitutionUnavailableError):
            slices.build()
    assert not [key for key in slices.store.objects if key.startswith("packages/")]
    slices.around.answers[LIVE, last] = answer
    assert slices.build() == Progress(True, len(PEOPLE), len(PEOPLE))
    assert Counter(customer for _, customer in slices.around.asked)[PEOPLE[0]] == 1
    assert not list(slices.store.keys(slices.prefix))


def test_what_is_kept_of_an_unfinished_slice_names_no_account_and_no_institution() -> None:
    """It holds what the package will hold (design decision 11), and goes with the numbers."""
    slices = Slices()
    slices.around.seconds = 0.0
    slices.build()
    kept = slices.store.objects[f"{slices.prefix}texts/00000.json"].decode()
    assert LIVE not in kept
    assert {len(one["accountID"]) for text, _ in json.loads(kept) for one in json.loads(text)["loans"]} == {24}
