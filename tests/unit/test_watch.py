"""What needs somebody's action: when each finding is there, when it is not, and what it says."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.ports import Credential, Dataset, Institution, Provider, Receiver, RevocationList
from gjeldsbro.services.watch import GAUGES, Finding, Limits, find, last_night, measure

FI, PROVIDER, RECEIVER, OTHER = "920013015", "9908:920013015", "985815534", "983544622"
NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)
"""A Wednesday, after the deadline of the day."""

LIMITS = Limits(night_deadline_hour=8, export_deadline_days=3, expiry_warning_days=30, login_max_age_days=730)
LONG_AGO = "2024-01-01T00:00:00.0000000Z"


def at(day: int, hour: int = 5, minute: int = 5) -> str:
    """A moment in November, in the fixed form."""
    return from_datetime(datetime(2026, 11, day, hour, minute, tzinfo=UTC))


@dataclass
class Table:
    """A PartnerTable in memory, in which all is well at NOW: one institution, loaded this morning, and no receivers."""

    institution_list: list[Institution] = field(
        default_factory=lambda: [Institution(FI, "Testbanken AS", providers=(Provider(PROVIDER, "https://fi.no"),))]
    )
    dataset_list: list[Dataset] = field(
        default_factory=lambda: [Dataset(FI, PROVIDER, fetch_start=at(25), last_run={"run": "n", "status": "loaded"})]
    )
    night_runs: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"n": {"state": "finished", "whole": True, "startedAt": at(25)}}
    )
    export_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcome_of: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes_of: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    receiver_list: list[Receiver] = field(default_factory=list)
    delivery_of: dict[str, dict[str, Any]] = field(default_factory=dict)
    credential_list: list[Credential] = field(default_factory=list)

    def institutions(self) -> list[Institution]:
        """All institutions."""
        return self.institution_list

    def receivers(self) -> list[Receiver]:
        """All receivers."""
        return self.receiver_list

    def datasets(self, institution: str | None = None) -> list[Dataset]:
        """All datasets."""
        return self.dataset_list

    def runs(self, flow: str, since: datetime) -> dict[str, dict[str, Any]]:
        """The runs since then."""
        runs = self.night_runs if flow == "nightly" else self.export_runs
        return {name: run for name, run in runs.items() if run["startedAt"] >= from_datetime(since)}

    def outcomes(self, run: str) -> dict[str, dict[str, Any]]:
        """The outcomes of an export."""
        last = {subject: one for subject, one in self.outcome_of.items() if one["run"] == run}
        return last | self.outcomes_of.get(run, {})

    def deliveries(self, quarter: str) -> dict[str, dict[str, Any]]:
        """The quarter's deliveries."""
        assert quarter == "2026-4"
        return self.delivery_of

    def credentials(self) -> list[Credential]:
        """What operators handed over."""
        return self.credential_list


ENDS = {"soon": NOW + timedelta(days=29), "later": NOW + timedelta(days=31), "over": NOW - timedelta(days=1)}


def watched(
    table: Table, now: datetime = NOW, lists: tuple[RevocationList, ...] = (), limits: Limits = LIMITS
) -> list[Finding]:
    """What is found; certificates are words that say when they end."""
    return find(table, lists, ENDS.get, now, limits)


def test_when_all_is_well_nothing_is_found_and_that_is_measured() -> None:
    """A gauge of 0 says that somebody looked; no measurement would set off another alarm."""
    assert watched(Table()) == []
    assert measure([]) == dict.fromkeys(GAUGES, 0)


@pytest.mark.parametrize(
    ("now", "night"),
    [
        (datetime(2026, 11, 25, 7, 59, tzinfo=UTC), 24),
        (datetime(2026, 11, 25, 8, 0, tzinfo=UTC), 25),
        (datetime(2026, 11, 26, 3, 0, tzinfo=UTC), 25),
    ],
)
def test_a_night_is_due_at_its_deadline_and_until_the_next_one(now, night) -> None:
    """From 08:00 on the day's own night counts, before that the night of the day before."""
    assert last_night(now, 8) == datetime(2026, 11, night, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ({}, "no run of all institutions was started"),
        ({"n": {"state": "finished", "whole": True, "startedAt": at(25, 4)}}, "no run of all institutions was started"),
        ({"n": {"state": "finished", "whole": False, "startedAt": at(25)}}, "no run of all institutions was started"),
        ({"n": {"state": "running", "whole": True, "startedAt": at(25)}}, "not finished: run n"),
    ],
)
def test_a_night_is_overdue_until_one_of_all_institutions_has_ended(runs, says) -> None:
    """A run of one institution, of before 05:00, or that is still at work is not the day's night."""
    (finding,) = watched(Table(night_runs=runs))
    assert finding == Finding("NightOverdue", "the night of 2026-11-25", says)


def test_a_night_that_was_started_late_counts() -> None:
    """Also one that an operator started in the evening, or in the next night before it is due."""
    late = {"n": {"state": "finished", "whole": True, "startedAt": at(26, 2)}}
    assert watched(Table(night_runs=late), NOW + timedelta(hours=18)) == []


@pytest.mark.parametrize("institutions", [[], [Institution(FI, "T", ended=True, providers=(Provider(PROVIDER, "u"),))]])
def test_no_night_is_due_where_there_is_nothing_to_fetch(institutions) -> None:
    """A stack without institutions, or whose only one has ended, has nothing to miss."""
    assert watched(Table(institution_list=institutions, dataset_list=[], night_runs={})) == []


def test_an_institution_that_came_today_is_not_missed_yet() -> None:
    """Its first night is the next one; and so a stack that was set up in the morning is quiet."""
    new = Institution(FI, "Testbanken AS", providers=(Provider(PROVIDER, "https://fi.no", since=at(25, 7)),))
    assert watched(Table(institution_list=[new], dataset_list=[], night_runs={})) == []


@pytest.mark.parametrize(
    ("accepted", "missing"), [(at(24), False), (at(24, 5, 0), False), (at(23), True), (None, True)]
)
def test_a_dataset_is_missing_after_two_nights(accepted, missing) -> None:
    """Accepted in this night or the last: not missing. The word about the last run is kept."""
    last = {"run": "n", "status": "refused", "reason": "/customers/0/loans: must be a list"}
    table = Table(dataset_list=[Dataset(FI, PROVIDER, fetch_start=accepted, last_run=last)])
    (finding,) = watched(table)
    assert finding.alarm == ("InstitutionsMissing" if missing else "DatasetsNotLoaded")
    assert "run n: refused: /customers/0/loans: must be a list" in finding.what
    assert finding.subject == "Testbanken AS (920013015), provider 9908:920013015"
    assert measure([finding])["InstitutionsMissing"] == int(missing)


@pytest.mark.parametrize(
    "provider", [Provider(PROVIDER), Provider(PROVIDER, "https://fi.no", ended=True)], ids=["pushes only", "ended"]
)
def test_who_is_not_fetched_is_not_missing(provider) -> None:
    """A provider that only pushes, or was dropped, owes no dataset."""
    table = Table(institution_list=[Institution(FI, "T", providers=(provider,))], dataset_list=[], night_runs={})
    assert watched(table) == []


def receiver(since: str = LONG_AGO) -> Receiver:
    """A receiver of one package, first ordered at that time."""
    return Receiver(RECEIVER, "Mottaker AS", (OTHER,), "sftp://x", ("key",), "secret", since={OTHER: since})


KEY = f"{RECEIVER}#{OTHER}"


def quarter(day: int, hour: int = 12) -> datetime:
    """A day of October."""
    return datetime(2026, 10, day, hour, tzinfo=UTC)


def test_a_package_is_outstanding_after_the_days_of_the_quarter() -> None:
    """Three days, by the Norwegian clock; before that nothing is late, not even an export that has not begun."""
    table = Table(institution_list=[], dataset_list=[], receiver_list=[receiver()])
    assert watched(table, datetime(2026, 10, 3, 21, 59, tzinfo=UTC)) == []
    (finding,) = watched(table, datetime(2026, 10, 3, 22, 0, tzinfo=UTC))
    assert finding == Finding(
        "PackagesOutstanding",
        "Mottaker AS (985815534) on behalf of 983544622, 2026-4",
        "not delivered; no export was started",
    )


def test_a_package_that_was_delivered_is_not_outstanding() -> None:
    """Whichever run did it, and also when another run for it is at work again."""
    table = Table(receiver_list=[receiver()], delivery_of={KEY: {"deliveredAt": at(1), "state": "delivering"}})
    assert watched(table) == []


def test_a_package_that_was_first_ordered_in_the_quarter_waits_for_the_next() -> None:
    """Unless an export has tried it: then it says why it was not delivered."""
    table = Table(receiver_list=[receiver(since=at(20))])
    assert watched(table) == []
    table.export_runs = {"x": {"startedAt": at(24), "quarter": "2026-4"}}
    table.outcome_of = {KEY: {"run": "x", "status": "refused", "error": "LOGIN", "reason": "the login was refused"}}
    (finding,) = watched(table)
    assert finding[::2] == ("PackagesNotDelivered", "run x: refused: LOGIN: the login was refused")


def test_a_package_that_the_last_export_did_not_deliver_is_told_once() -> None:
    """Before the deadline as the export's failure, after it as outstanding, with the same words of the last run."""
    table = Table(institution_list=[], dataset_list=[], receiver_list=[receiver()])
    for name, hour, words in (("old", 7, "first"), ("new", 8, "second")):
        table.export_runs[name] = {"startedAt": from_datetime(quarter(1, hour)), "quarter": "2026-4", "words": words}
    table.outcome_of = {KEY: {"run": "new", "status": "failed", "error": "ReceiverUnavailableError"}}
    (before,), (after,) = watched(table, quarter(2)), watched(table, quarter(10))
    assert (before.alarm, after.alarm) == ("PackagesNotDelivered", "PackagesOutstanding")
    assert before.what == "run new: failed: ReceiverUnavailableError"
    assert after.what == "not delivered; run new: failed: ReceiverUnavailableError"


def test_a_package_is_told_of_until_it_is_delivered_whatever_is_exported_beside_it() -> None:
    """An export of another receiver says nothing of it: what the last one said that tried it stands."""
    table = Table(institution_list=[], dataset_list=[], receiver_list=[receiver()])
    for name, hour in (("first", 7), ("again", 8), ("other", 9)):
        table.export_runs[name] = {"startedAt": from_datetime(quarter(1, hour)), "quarter": "2026-4"}
    for name, error in (("first", "LOGIN"), ("again", "FOLDER")):
        table.outcomes_of[name] = {KEY: {"run": name, "status": "refused", "error": error}}
    (before,), (after,) = watched(table, quarter(2)), watched(table, quarter(10))
    assert before[::2] == ("PackagesNotDelivered", "run again: refused: FOLDER")
    assert after[::2] == ("PackagesOutstanding", "not delivered; run again: refused: FOLDER")


def test_a_package_that_no_export_has_come_to_says_so() -> None:
    """It is late, exports were started, and none of them was about it."""
    table = Table(receiver_list=[receiver()])
    table.export_runs = {"x": {"startedAt": at(24), "quarter": "2026-4"}}
    (finding,) = watched(table)
    assert finding[::2] == ("PackagesOutstanding", "not delivered; run x says nothing of it")


def test_an_export_for_another_quarter_says_nothing_of_this_one() -> None:
    """An operator may deliver last quarter's package late; this quarter's is still outstanding."""
    table = Table(receiver_list=[receiver()])
    table.export_runs = {"x": {"startedAt": at(24), "quarter": "2026-3"}}
    (finding,) = watched(table)
    assert finding.what == "not delivered; no export was started"


@pytest.mark.parametrize(
    ("pem", "says"), [("soon", "ends on 2026-12-24"), ("later", None), ("over", "has ended on 2026-11-24")]
)
def test_a_certificate_is_told_before_it_ends(pem, says) -> None:
    """The institutions' private authorities and those whose revocation lists are fetched, 30 days ahead."""
    own = Institution(FI, "Testbanken AS", providers=(Provider(PROVIDER, "https://fi.no", ca=pem),))
    read = {"this_update": NOW, "next_update": NOW + timedelta(days=1), "read_at": NOW}
    authority = RevocationList("id", "Buypass", "http://crl", pem, **read)
    found = watched(Table(institution_list=[own]), lists=(authority,))
    subjects = ["Testbanken AS (920013015), caFile of 9908:920013015", "authority Buypass"]
    assert found == ([] if says is None else [Finding("CredentialsExpiring", subject, says) for subject in subjects])


@pytest.mark.parametrize(
    ("credential", "says"),
    [
        (Credential("login", LONG_AGO, at(30)), "ends on 2026-11-30"),
        (Credential("login", LONG_AGO, at(30, 0, 0)), "ends on 2026-11-29"),
        (Credential("login", LONG_AGO, at(25, 0, 0)), "has ended on 2026-11-24"),
        (Credential("login", LONG_AGO, "2027-06-01T00:00:00.0000000Z"), None),
        (Credential("login", LONG_AGO), "in use since 2024-01-01; to be changed by 2025-12-31"),
        (Credential("login", at(1)), None),
    ],
)
def test_a_login_is_told_before_it_ends_or_grows_old(credential, says) -> None:
    """What somebody said of its end counts, its last day; without that, two years since it was first handed over."""
    found = watched(Table(credential_list=[credential]))
    assert [finding.what for finding in found] == ([] if says is None else [says])


def test_the_age_of_logins_can_be_left_out() -> None:
    """With a limit of 0 days nobody is told of old ones."""
    table = Table(credential_list=[Credential("login", LONG_AGO)])
    assert watched(table, limits=LIMITS._replace(login_max_age_days=0)) == []


def test_an_old_revocation_list_is_shown_with_what_is_wrong() -> None:
    """It is measured by its own function; here it only stands in the list of what needs action."""
    old = RevocationList("id", "Buypass", "http://crl", "later", problem="HTTP 404")
    (finding,) = watched(Table(), lists=(old,))
    assert finding == Finding("RevocationListsOld", "revocation list Buypass", "HTTP 404")
    assert measure([finding]) == dict.fromkeys(GAUGES, 0)
