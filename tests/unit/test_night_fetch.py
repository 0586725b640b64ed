"""Fetching a dataset: pages, refusals, time; nothing of a person leaves memory."""

import json
from datetime import timedelta
from itertools import cycle

import pytest
from tests.unit.night_world import FI, PROVIDER, DiedError, World, customer_json, page_json, people

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.errors import ConfigurationError, DatasetRefusedError, InstitutionUnavailableError, Violation
from gjeldsbro.services.night import fetch
from gjeldsbro.services.night import records as night_records
from gjeldsbro.services.night.common import Job
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.ports import Institution, Provider

A, B, C = people(3)
JOB = Job("n1", FI, PROVIDER)
NOW = "2026-11-23T04:00:00Z"


def one(customer, balance=100, **more) -> dict:
    """A customer with one loan."""
    return {**customer_json(customer, balance, timestamp=NOW), **more}


def fetched(*bodies: bytes, header: str | None = None) -> World:
    """A world whose provider serves these pages, after the fetch."""
    world = World()
    headers = header if header is not None else (str(len(bodies)) if len(bodies) > 1 else None)
    world.served[FI, PROVIDER] = lambda page: FetchedPage(bodies[page], headers, len(bodies[page]))
    world.fetch("n1")
    return world


def test_all_pages_are_fetched_and_counted() -> None:
    """NumberOfPages says how many; customers without loans are counted apart."""
    world = fetched(page_json([one(A)]), page_json([one(B, 0)]), page_json([one(C)]))
    cursor = world.dataset().fetch
    assert [page for _, _, page in world.requests] == [0, 1, 2]
    assert (cursor["customers"], cursor["withLoans"], cursor["pages"], cursor["ready"]) == (3, 2, 3, True)


def test_without_the_header_there_is_one_page() -> None:
    """SPEC 3.1.2; asking on until a short page, as NoGI does, would never end at such a server."""
    world = fetched(page_json([one(A)]))
    assert len(world.requests) == 1


@pytest.mark.parametrize("header", ["0", "-1", "1.5", "x", "", "10001", "99999999999", "2, 2", "²"])
def test_an_absurd_number_of_pages_is_refused(header) -> None:
    """A whole number from 1 to the limit, in ASCII digits; else we would fetch too little or for ever."""
    world = fetched(page_json([one(A)]), header=header)
    outcome = world.outcome("n1")
    assert outcome["status"] == "refused"
    assert "numberOfPages must be a whole number" in outcome["reason"]
    assert len(world.requests) == 1


def test_a_number_of_pages_that_changes_on_the_way_is_refused() -> None:
    """The institution made a new dataset meanwhile: its pages do not belong together."""
    world = World()
    world.served[FI, PROVIDER] = lambda page: FetchedPage(page_json([one(people(3)[page])]), "32"[page], 10)
    world.fetch("n1")
    assert world.outcome("n1")["violations"] == [
        {"place": "page 1", "rule": "numberOfPages must be the same on all pages"},
    ]


def test_a_blank_page_before_others_is_refused() -> None:
    """A hole in the dataset would take its customers out of the register, unseen where few are missing."""
    world = fetched(page_json([one(A)]), page_json([]), page_json([one(C)]))
    assert world.outcome("n1")["violations"] == [
        {"place": "page 1 /customers", "rule": "must hold customers when those of a later page do"},
    ]


def test_blank_pages_that_are_no_holes_are_accepted() -> None:
    """Some institutions end with a blank page, and in a hand-over all of them are."""
    assert fetched(page_json([one(A)]), page_json([])).dataset().fetch["withLoans"] == 1
    assert fetched(page_json([]), page_json([])).dataset().fetch["withLoans"] == 0


def test_a_refused_page_is_no_blank_one() -> None:
    """What is wrong with it is said once."""
    world = fetched(page_json([one(A, customerID="1")]), page_json([one(B)]))
    assert world.outcome("n1")["totalViolations"] == 1


def test_a_page_that_does_not_repeat_the_header_is_accepted() -> None:
    """SPEC defines it for the response; some servers send it with page 0 only."""
    world = World()
    world.served[FI, PROVIDER] = lambda page: FetchedPage(page_json([one(people(3)[page])]), ["2", None][page], 10)
    world.fetch("n1")
    assert world.dataset().fetch["withLoans"] == 2


def test_a_refused_dataset_names_every_place_and_no_value() -> None:
    """All violations of all pages, with page and pointer; the register's record stays as it was."""
    broken = one(B)
    broken["loans"][0]["balance"] = "-77123"
    world = fetched(page_json([one(A, customerID="14842249092")]), page_json([one(C), broken]))
    outcome = world.outcome("n1")
    assert outcome["status"] == "refused"
    assert [violation["place"] for violation in outcome["violations"]] == [
        "page 0 /customers/0/customerID",
        "page 1 /customers/1/loans/0/balance",
    ]
    assert outcome["totalViolations"] == 2
    dataset = world.dataset()
    assert (dataset.lease, dataset.fetch, dataset.run) == (None, None, None)
    assert dataset.last_run["status"] == "refused"
    text = json.dumps(outcome)
    assert "77123" not in text
    assert "1484224909" not in text
    assert world.objects.stored == {}


def test_a_refusal_ends_the_fetch_when_enough_places_are_known() -> None:
    """Twenty places say what is wrong; the other pages need not be asked for."""
    wrong = [one(A, customerID=str(number)) for number in range(25)]
    world = fetched(page_json(wrong), page_json([one(B)]), page_json([one(C)]))
    assert len(world.requests) == 1
    assert len(world.outcome("n1")["violations"]) == 20
    assert world.outcome("n1")["totalViolations"] == 25


@pytest.mark.parametrize("balance", [100, 0])
def test_a_customer_on_two_pages_is_refused(balance) -> None:
    """Duplicates across pages too, also when one of them has no loans; the places are both named."""
    world = fetched(page_json([one(B), one(A)]), page_json([one(C), one(A, balance)]))
    outcome = world.outcome("n1")
    assert outcome["status"] == "refused"
    assert outcome["violations"][0]["place"] == "page 1 /customers/1"
    assert "page 0 as /customers/1" in outcome["violations"][0]["rule"]
    assert world.objects.stored == {}


def test_loans_that_no_item_can_hold_are_refused_in_the_fetch() -> None:
    """DynamoDB's item limit: found when the load is under way, it would leave a dataset half written."""
    customer = one(A)
    loan = customer["loans"][0]
    customer["loans"] = [{**loan, "accountID": f"{number:025d}", "accountName": "x" * 60} for number in range(5000)]
    world = fetched(page_json([customer]))
    assert world.outcome("n1")["violations"][0]["place"] == "page 0 /customers/0/loans"


def test_the_data_of_another_institution_or_provider_is_refused() -> None:
    """A dataset is accepted or refused as a whole (design decision 6)."""
    other = customer_json(A, 100, timestamp=NOW, institution="985815534")
    assert fetched(page_json([other])).outcome("n1")["status"] == "refused"
    assert fetched(page_json([one(A)], provider="9908:985815534")).outcome("n1")["status"] == "refused"


def test_a_refusal_of_the_server_is_the_outcome() -> None:
    """What the client found: it stands at the page, and is not asked for again."""

    def refuse(page: int) -> FetchedPage:
        raise DatasetRefusedError([Violation(f"page {page}", "HTTP 403")])

    world = World()
    world.served[FI, PROVIDER] = refuse
    world.fetch("n1")
    assert world.outcome("n1")["reason"] == "page 0: HTTP 403"


def test_an_unavailable_server_is_asked_again_at_the_page_where_it_stopped() -> None:
    """The state machine retries; pages that are there are not fetched again."""
    pages = [page_json([one(customer)]) for customer in (A, B, C)]
    failures = iter([False, True, False, True, False])

    def flaky(page: int) -> FetchedPage:
        if next(failures):
            raise InstitutionUnavailableError(f"page {page}: HTTP 503")
        return FetchedPage(pages[page], "3", len(pages[page]))

    world = World()
    world.served[FI, PROVIDER] = flaky
    for _ in range(2):
        with pytest.raises(InstitutionUnavailableError):
            world.fetch("n1")
    world.fetch("n1")
    assert [page for _, _, page in world.requests] == [0, 1, 1, 2, 2]
    assert world.dataset().fetch["withLoans"] == 3


def test_a_fetch_stops_while_there_is_time_for_a_page_and_goes_on_later() -> None:
    """At least one page an invocation; the merge is begun with time enough."""
    world = World()
    world.serve(dict.fromkeys(people(8), 100), pages=4)
    world.seconds = iter(lambda: 500.0, None)
    calls = 1
    while not fetch.fetch_pages(JOB, "fetch", world.fetcher):
        calls += 1
    assert calls == 4
    assert [page for _, _, page in world.requests] == [0, 1, 2, 3]
    world.judge("n1")
    world.seconds = None
    world.load("n1")
    assert world.balances() == world.expected(dict.fromkeys(people(8), 100))


def test_the_merge_gets_an_invocation_of_its_own_when_time_is_short() -> None:
    """It cannot be continued: so it is not begun at the end of one."""
    world = World()
    world.serve(dict.fromkeys(people(4), 100), pages=2)
    world.seconds = iter([900.0, 900.0, 800.0, 100.0, 900.0, 100.0])
    assert not fetch.fetch_pages(JOB, "fetch", world.fetcher)
    assert not world.dataset().fetch["ready"]
    assert fetch.fetch_pages(JOB, "fetch", world.fetcher)
    assert world.dataset().fetch["ready"]


def test_nothing_that_is_kept_or_said_holds_an_identity_number(log_stream) -> None:
    """Pages, rows, cursor, outcome and log: keyed hashes and counts only (design decision 15)."""
    world = fetched(page_json([one(A), one(B)]), page_json([one(C)]))
    kept = b"".join([key.encode() + data for key, data in world.objects.stored.items()])
    said = repr(world.records.held) + repr(world.records.outcome_of) + log_stream.getvalue()
    for customer in (A, B, C):
        assert customer.encode() not in kept
        assert customer not in said
    assert "NIGHT_DATASET_FETCHED" in log_stream.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.records.of.clear(),
        lambda world: world.records.of.update({FI: Institution(FI, "Testbanken", ended=True)}),
        lambda world: world.records.of.update({FI: Institution(FI, "Testbanken", providers=(Provider(PROVIDER),))}),
    ],
)
def test_a_provider_that_is_gone_meanwhile_is_not_called(change) -> None:
    """An operator's change counts at once."""
    world = World()
    change(world)
    with pytest.raises(ConfigurationError):
        world.fetch("n1")
    assert world.requests == []


def test_as_of_and_the_times_of_the_loans_come_from_the_whole_dataset() -> None:
    """Earliest and latest over all pages decide what the dataset speaks for."""
    pages = [
        page_json([customer_json(A, 1, timestamp="2026-11-23T03:30:00Z")]),
        page_json([customer_json(B, 1, timestamp="2026-11-23T01:00:00.5Z")]),
    ]
    world = fetched(*pages)
    world.judge("n1")
    world.load("n1")
    assert world.dataset().as_of == "2026-11-23T01:00:00.5000000Z"
    assert world.outcome("n1")["asOf"] == world.dataset().as_of


def test_the_same_person_has_another_key_under_another_secret() -> None:
    """The keys of the rows come from the keyed hash, nothing else."""
    world = World()
    world.hash_keys = HashKeys.of(HashKey("1", b"other" * 8))
    world.serve({A: 100})
    world.now += timedelta(hours=1)
    world.night("n1", days=0)
    assert set(world.balances()) == {HashKey("1", b"other" * 8).customer_key(A)}


# Many pages, and much time


def many_pages(width: int, monkeypatch, count: int = 20) -> tuple[World, dict[str, int]]:
    """A world whose provider delivers ``count`` customers, each on a page of its own; every seventh without loans."""
    monkeypatch.setattr(night_records, "MERGE_WIDTH", width)
    world = World()
    amounts = {customer: 0 if number % 7 == 6 else 100 + number for number, customer in enumerate(people(count))}
    world.serve(amounts, pages=count)
    return world, amounts


@pytest.mark.parametrize("width", [1, 3, 10, 19, 20, 256])
def test_many_pages_are_merged_in_groups(width, monkeypatch) -> None:
    """Never more files at once than the width, and the register is the same however they are grouped."""
    world, amounts = many_pages(width, monkeypatch)
    opened = []
    once = night_records.rows
    monkeypatch.setattr(night_records, "rows", lambda chunks, size: opened.append(size) or once(chunks, size))
    world.night("n1")
    world.assert_holds(amounts)
    assert len(opened) == (20 if width >= 20 else 20 + -(-20 // width))
    assert world.outcome("n1")["pages"] == 20


def test_a_customer_on_two_pages_of_different_groups_is_refused_with_both_places(monkeypatch) -> None:
    """The place is that in the institution's own pages, whatever we made of them."""
    world, amounts = many_pages(3, monkeypatch)
    pages = world.served[FI, PROVIDER]
    pages[17] = page_json([one(people(30)[25]), one(people(20)[4])])
    world.night("n1")
    assert world.outcome("n1")["violations"] == [
        {
            "place": "page 17 /customers/1",
            "rule": "a customer must come once; this one came before, on page 4 as /customers/0",
        },
    ]
    pages[17] = page_json([one(people(30)[25]), one(people(20)[16])])
    world.night("n2")
    assert world.outcome("n2")["violations"][0]["place"] == "page 17 /customers/1"
    assert (world.balances(), len(amounts)) == ({}, 20)


def test_a_fetch_of_many_pages_that_is_killed_after_any_write_goes_on(monkeypatch) -> None:
    """Also in the middle of a group; what was merged is not merged again, and nothing of the dead one is left."""
    for writes in range(1, 1000):
        world, amounts = many_pages(4, monkeypatch, count=10)
        world.plan("n1")
        world.mortality.last = world.mortality.writes + writes
        died = False
        try:
            world.fetch("n1")
        except DiedError:
            died = True
        world.mortality.last = None
        world.fetch("n1")
        assert len(world.requests) <= 11
        world.judge("n1")
        world.load("n1")
        world.report("n1")
        world.assert_holds(amounts)
        if not died:
            break
    assert writes > 30


def test_a_fetch_of_many_pages_takes_many_invocations(monkeypatch) -> None:
    """Each gets on by a page or a group, however little time it has."""
    world, amounts = many_pages(4, monkeypatch)
    world.seconds = cycle([fetch.PAGE_SECONDS + 100.0, 10.0])
    world.plan("n1")
    calls = 1
    while not fetch.fetch_pages(JOB, "fetch", world.fetcher):
        calls += 1
    assert calls >= 20
    world.seconds = None
    world.judge("n1")
    world.load("n1")
    world.report("n1")
    world.assert_holds(amounts)


@pytest.mark.parametrize(
    ("hours", "reason"),
    [
        (7, "too slow: page 0 had not come 6 hours after the run began"),
        (5.9, "too slow: page 2 of 3 had not come 6 hours after the run began"),
    ],
)
def test_a_fetch_that_takes_too_long_ends_in_words(hours, reason) -> None:
    """Counted from the run's start, so that others behind the same slow server end too; yesterday's data stays."""
    world = World()
    world.serve({A: 100})
    world.night("n0")
    world.serve({A: 200, B: 100, C: 100}, pages=3)
    pages = world.served[FI, PROVIDER]

    def slow(page: int) -> FetchedPage:
        world.now += timedelta(minutes=4)
        return FetchedPage(pages[page], "3", 10)

    world.served[FI, PROVIDER] = slow
    world.plan("n1")
    world.now += timedelta(hours=hours)
    world.fetch("n1")
    assert world.judge("n1") == {"datasets": [], "withdrawals": []}
    world.report("n1")
    outcome = world.outcome("n1")
    assert (outcome["status"], outcome["reason"]) == ("failed", reason)
    assert outcome["error"] == "InstitutionUnavailableError"  # the institution sees the reason too
    world.assert_holds({A: 100})


def test_a_list_that_does_not_come_ends_likewise() -> None:
    """It has no pages to speak of."""
    world = World()
    world.deliver("ssn")
    world.plan("n1")
    world.now += timedelta(hours=6, minutes=1)
    world.fetch("n1")
    assert world.outcome("n1")["reason"] == "too slow: the list had not come 6 hours after the run began"
