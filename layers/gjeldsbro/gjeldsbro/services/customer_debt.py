"""One customer's debt at this moment: from the institutions themselves, and from the register (SPEC appendix B).

The register says which institutions may have debt of the customer, and each institution's ``lookup`` mode what is done
about it. A provider that answers counts as a dataset with ``asOf`` = now, in place of everything stored of that
provider; from there on the merge rule of ``domain.register`` decides, as it always does. Knows nothing of HTTP.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Lock
from typing import Literal, NamedTuple, Protocol

from gjeldsbro.domain.loans import Loan
from gjeldsbro.domain.register import CurrentLoan, DatasetItem, DatasetTimes, Item, is_index_only, merge
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import GjeldsbroError, NoAnswerInTimeError
from gjeldsbro.log import known_error, logger
from gjeldsbro.services.customer_lookup import LookupRegister, dataset_times, items_of_many
from gjeldsbro.services.ports import DatasetTime, Institution, Provider

ASKS_AT_A_TIME = 32
"""Questions at a time; what cannot be asked before the deadline counts as not answered."""

FAIR_SECONDS = 2.5
"""Who did not answer in less time than this has not failed: about the default wait, less what we need ourselves.

The breaker is shared by all lenders. With less, one of them that waits for a second only would have an institution that
takes longer left alone for everybody.
"""

AnswerSource = Literal["institution", "register", "none"]
"""Where an institution's loans come from: from itself just now, from what is stored, or nobody knows them."""


class Asking(Protocol):
    """Asks an institution's provider for one customer (SPEC 3.1.2 and 6.1)."""

    def ask(self, provider: Provider, institution: str, customer_id: str, deadline: float) -> tuple[Loan, ...]:
        """The customer's loans, validated; () for none. Only for a provider that ``can_be_asked``.

        Returns or raises by ``deadline`` (``time.monotonic()``), retries included: nobody waits longer. Called from
        several threads at a time, so connections are kept in something that threads share. Raises NoAnswerInTimeError,
        another InstitutionUnavailableError (no connection, 408, 425, 429, 5xx) or a RefusedError (InvalidMessageError
        when the answer breaks SPEC's rules; 4xx; TLS).
        """
        ...


class Breaker(Protocol):
    """Remembers which providers keep failing, so that they are left alone for a while.

    Each method is called at most once per provider in a lookup, from one thread, however many customers were asked for.
    """

    def may_ask(self, institution: str, provider: str, now: datetime, *, fair: bool = True) -> bool:
        """Whether to ask this provider now. ``fair``: it will have so much time that a time-out would count."""
        ...

    def failed(self, institution: str, provider: str, now: datetime) -> None:
        """It was asked, and never answered as it should: not in a fair time, or not as it must."""
        ...

    def answered(self, institution: str, provider: str, now: datetime) -> None:
        """It answered at least once."""
        ...


class DebtPartners(Protocol):
    """What is needed to know of institutions and their datasets."""

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included. May be half a minute old: changes of set-up are rare."""
        ...

    def dataset_times(self) -> list[DatasetTime]:
        """``asOf`` of every dataset, no newer than what is then read of the register; may be two seconds old."""
        ...


class CreditorDebt(NamedTuple):
    """What is known of one customer at one institution.

    ``answered``: nothing that should have been asked is missing. ``source`` is ``institution`` when all that were asked
    answered, ``register`` when stored data stands in for those that did not (or the institution is not asked live), and
    ``none`` when nothing stands in for one of them. ``live`` are the providers whose loans are their own answers:
    an institution may have two providers, one of which is down, or cannot be asked.
    """

    institution: str
    loans: tuple[CurrentLoan, ...]
    answered: bool
    source: AnswerSource
    live: frozenset[str] = frozenset()

    def source_of(self, loan: CurrentLoan) -> Literal["institution", "register"]:
        """Where one of its loans comes from."""
        return "institution" if loan.provider in self.live else "register"


class AskingThreads:
    """The threads that ask, kept between lookups: starting them anew costs a lookup up to 8 ms on a busy machine.

    A thread that hangs takes nobody's place: the lookup that finds one gives up the whole set, and the next gets a new
    one.
    """

    def __init__(self, size: int = ASKS_AT_A_TIME) -> None:
        self._size = size
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    def run[Task, Result](
        self, function: Callable[[Task], Result], tasks: Iterable[Task], seconds: float
    ) -> list[Future[Result] | None]:
        """Run ``function`` on each task; after so many seconds, what is done of each, in their order.

        None for a task that was not done by then, whether it had begun or not.
        """
        with self._lock:
            pool = self._pool = self._pool or ThreadPoolExecutor(self._size, "ask")
            futures = [pool.submit(function, task) for task in tasks]
        done, late = wait(futures, timeout=seconds)
        if [future for future in late if not future.cancel()]:
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            pool.shutdown(wait=False)  # what other lookups have submitted is still run
        return [future if future in done else None for future in futures]


_THREADS = AskingThreads()
"""Those of this process."""

type _Subject = tuple[str, str]
"""(institution, provider)"""


@dataclass
class _Person:
    customer_id: str
    stored: Sequence[Item]
    wanted: Mapping[_Subject, Provider]
    """Whom to ask, those that the breaker keeps from being asked included."""
    answers: dict[_Subject, tuple[Loan, ...]] = field(default_factory=dict)


@dataclass
class _Ask:
    person: _Person
    subject: _Subject
    provider: Provider
    started: float | None = None
    """None while it waits for a thread."""


@dataclass(frozen=True)
class CustomerDebt:
    """Finds out what customers owe now. ``clock`` is the clock of deadlines."""

    partners: DebtPartners
    register: LookupRegister
    asking: Asking
    breaker: Breaker
    clock: Callable[[], float] = time.monotonic
    threads: AskingThreads = _THREADS
    fair_seconds: float = FAIR_SECONDS

    def of(self, customer_id: str, *, deadline: float, now: datetime) -> list[CreditorDebt]:
        """``of_many`` for one customer."""
        return self.of_many([customer_id], deadline=deadline, now=now)[0]

    def of_many(self, customer_ids: Sequence[str], *, deadline: float, now: datetime) -> list[list[CreditorDebt]]:
        """For each customer, in their order: every institution that was asked or has loans, by id.

        Institutions are asked until ``deadline`` (of ``clock``) and not a moment longer. No institution's fault fails
        the lookup: its ``answered`` is False then. Raises what the register's and the partners' reads raise.
        """
        institutions = self.partners.institutions()
        # Before the items: see dataset_times.
        datasets = self.partners.dataset_times()
        times = dataset_times(institutions, datasets)
        stored = items_of_many(customer_ids, self.register, datasets)
        persons = [
            _Person(customer_id, items, _providers_to_ask(institutions, items, times))
            for customer_id, items in zip(customer_ids, stored, strict=True)
        ]
        self._ask_all(persons, deadline, now)
        by_id = {institution.institution: institution for institution in institutions}
        return [list(_creditors(person, times, by_id, from_datetime(now))) for person in persons]

    def _ask_all(self, persons: Sequence[_Person], deadline: float, now: datetime) -> None:
        """Ask for all that is wanted, side by side, and note the answers that come by the deadline."""
        if self.clock() >= deadline:
            return
        subjects = sorted({subject for person in persons for subject in person.wanted})
        fair = deadline - self.clock() >= self.fair_seconds
        allowed = {subject for subject in subjects if self._may_ask(subject, now, fair=fair)}
        asks = [
            _Ask(person, subject, provider)
            for person in persons
            for subject, provider in person.wanted.items()
            if subject in allowed
        ]
        if not asks:
            return
        outcomes = self.threads.run(partial(self._ask, deadline), asks, max(0.0, deadline - self.clock()))
        answered: set[_Subject] = set()
        failed: set[_Subject] = set()
        for ask, outcome in zip(asks, outcomes, strict=True):
            error = None if outcome is None else outcome.exception()
            if outcome is not None and error is None:
                ask.person.answers[ask.subject] = outcome.result()
                answered.add(ask.subject)
                continue
            _log_failure(ask.subject, error)
            timed_out = outcome is None or isinstance(error, NoAnswerInTimeError)
            if ask.started is not None and (not timed_out or deadline - ask.started >= self.fair_seconds):
                failed.add(ask.subject)
        for subject in sorted(answered | failed):
            self._tell_breaker(subject, answered=subject in answered, now=now)

    def _ask(self, deadline: float, ask: _Ask) -> tuple[Loan, ...]:
        ask.started = self.clock()
        return self.asking.ask(ask.provider, ask.subject[0], ask.person.customer_id, deadline)

    def _may_ask(self, subject: _Subject, now: datetime, *, fair: bool) -> bool:
        try:
            return self.breaker.may_ask(*subject, now, fair=fair)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with the breaker, the lookup goes on
            known_error(exc)
            return True

    def _tell_breaker(self, subject: _Subject, *, answered: bool, now: datetime) -> None:
        try:
            if answered:
                self.breaker.answered(*subject, now)
            else:
                self.breaker.failed(*subject, now)
        except Exception as exc:  # noqa: BLE001 - as above
            known_error(exc)


def _providers_to_ask(
    institutions: Iterable[Institution], stored: Iterable[Item], times: Mapping[str, DatasetTimes]
) -> dict[_Subject, Provider]:
    """Whom to ask about a customer of whom ``stored`` is all that is stored.

    Of an institution that is asked live: each provider that something is stored of, be it debt or not; all that can be
    asked, if something is stored of one that cannot; and in mode ``live`` also each provider that no dataset or list of
    customers was ever accepted of, because nobody knows whether it has the customer (SPEC appendix B, use case 2).
    """
    holders: dict[str, set[str]] = {}
    for item in stored:
        holders.setdefault(item.institution, set()).add(item.provider)
    wanted: dict[_Subject, Provider] = {}
    for institution in institutions:
        having = holders.get(institution.institution, set())
        if not having and institution.lookup != "live":
            continue
        askable = _askable(institution)
        others_have = bool(having.difference(provider.provider for provider in askable))
        of_datasets = times.get(institution.institution, {})
        for provider in askable:
            unindexed = institution.lookup == "live" and of_datasets.get(provider.provider) is None
            if others_have or unindexed or provider.provider in having:
                wanted[institution.institution, provider.provider] = provider
    return wanted


def _askable(institution: Institution) -> list[Provider]:
    if institution.lookup == "stored" or institution.ended:
        return []
    return [provider for provider in institution.providers if provider.can_be_asked]


def _creditors(
    person: _Person, times: Mapping[str, DatasetTimes], institutions: Mapping[str, Institution], now: str
) -> Iterator[CreditorDebt]:
    """What the answers and the register say together, of all institutions that were asked or that have loans."""
    stored: dict[str, list[Item]] = {institution: [] for institution, _ in person.wanted}
    for item in person.stored:
        stored.setdefault(item.institution, []).append(item)
    for name in sorted(stored):
        of_datasets = times.get(name, {})
        asked = {provider for institution, provider in person.wanted if institution == name}
        if asked:
            answers = {provider: loans for (of, provider), loans in person.answers.items() if of == name}
            yield _asked_creditor(institutions[name], stored[name], asked, answers, of_datasets, now)
        else:
            loans = _loans(name, stored[name], of_datasets)
            if any(map(is_index_only, stored[name])):  # there is debt, and nobody whom we can ask how much
                yield CreditorDebt(name, loans, answered=False, source="none")
            elif loans:
                yield CreditorDebt(name, loans, answered=True, source="register")


def _asked_creditor(
    institution: Institution,
    stored: Sequence[Item],
    asked: set[str],
    answers: Mapping[str, tuple[Loan, ...]],
    times: DatasetTimes,
    now: str,
) -> CreditorDebt:
    """One institution, of which ``asked`` should have answered and ``answers`` came.

    A provider's answer takes the place of its items; and of the items of a provider that has ended, when all its
    successors have answered: no sooner, as in the night (design decision 6). In mode ``live`` nothing is shown that is
    stored of a provider that can be asked, whether it answered or not; what is stored of one that cannot be asked is
    the only word on its loans, and stays as in mode ``both``.

    What stays is up to the merge rule (design decision 4), for which an answer is a dataset of now. So answers say
    nothing of the loans and pushes of a provider that delivers datasets but cannot be asked: its own dataset is its
    pushes' cover. The cover of one that only pushes is the oldest dataset of the institution: its pushes go when all
    who deliver datasets have answered, for one of them carries the loan and has told how it stands now.
    """
    name = institution.institution
    replaced = _with_predecessors(institution, set(answers))
    hidden = replaced
    if institution.lookup == "live":
        hidden = _with_predecessors(institution, {provider.provider for provider in _askable(institution)})
    kept = [item for item in stored if item.provider not in hidden]
    current = [DatasetItem(name, provider, loans) for provider, loans in answers.items()]
    of_datasets = {provider: as_of for provider, as_of in times.items() if provider not in replaced}
    shown = _loans(name, [*kept, *current], of_datasets | dict.fromkeys(answers, now))
    missing = asked.difference(answers)
    if any(map(is_index_only, kept)):  # there is debt that none of the answers told of
        return CreditorDebt(name, shown, answered=False, source="none", live=frozenset(answers))
    source: AnswerSource = "institution"
    if missing:
        known = all(_register_knows(institution, stored, provider, times) for provider in missing)
        source = "register" if known and institution.lookup == "both" else "none"
    return CreditorDebt(name, shown, not missing, source, frozenset(answers))


def _with_predecessors(institution: Institution, providers: set[str]) -> set[str]:
    """These providers, and those that have ended if these are all their successors."""
    successors = {other.provider for other in institution.providers if other.delivers_datasets and not other.ended}
    if not successors <= providers:
        return providers
    return providers | {other.provider for other in institution.providers if other.ended}


def _loans(institution: str, items: Iterable[Item], times: DatasetTimes) -> tuple[CurrentLoan, ...]:
    return tuple(merge(items, {institution: times}).loans.get(institution, ()))


def _register_knows(institution: Institution, stored: Sequence[Item], provider: str, times: DatasetTimes) -> bool:
    """Whether the register has a word of this provider on the customer's loans, "none" included.

    Until a successor's first dataset is accepted, that of the provider before it is its word (design decision 6).
    """
    own = [item for item in stored if item.provider == provider]
    if any(map(is_index_only, own)):
        return False
    if own or times.get(provider) is not None:
        return True
    return any(other.ended and times.get(other.provider) is not None for other in institution.providers)


def _log_failure(subject: _Subject, error: BaseException | None) -> None:
    institution, provider = subject
    extra = {"institution": institution, "provider": provider}
    if isinstance(error, GjeldsbroError):
        extra |= {"error": type(error).__name__, "reason": str(error)}
    elif isinstance(error, Exception):
        extra |= {"error": type(known_error(error)).__name__}
    else:
        extra |= {"error": "NoAnswerInTime"}
    logger.warning("CUSTOMER_NOT_ANSWERED", extra=extra)
