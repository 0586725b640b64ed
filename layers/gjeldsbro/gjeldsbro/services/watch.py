"""What needs somebody's action now, as far as the PartnerTable tells.

``watch_operations`` measures it every quarter of an hour, and ``gjeldsbro status`` shows it: the same findings from the
same code. Each is called after the alarm that goes off for it, and that is the name of its entry in docs/runbook.md.

======================  ==============================================================================================
finding                 is there when
======================  ==============================================================================================
``NightOverdue``        the deadline of the day has passed, and no night of all institutions has ended since 05:00 UTC
``InstitutionsMissing`` a dataset was not accepted in the last two nights whose deadline has passed
``DatasetsNotLoaded``   the last run of a dataset refused, held or failed it; the night itself has said so
``PackagesOutstanding`` a package of this quarter is not delivered, and the days that it may take are over
``PackagesNotDelivered``  as long as they are not: the last export that came to it did not deliver it
``CredentialsExpiring`` a certificate, key or password ends within the days of warning, or has ended
``RevocationListsOld``  an authority's list has ended, or could not be fetched for a day
======================  ==============================================================================================
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple, Protocol

from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.timestamps import from_datetime, to_datetime
from gjeldsbro.services.ports import Credential, Dataset, Institution, Provider, Receiver, RevocationList
from gjeldsbro.services.refresh_revocations import is_old

NIGHT_FROM = time(5)
"""UTC: when institutions have the night's datasets ready (SPEC). A run that began earlier is not that day's night."""

GAUGES = ("NightOverdue", "InstitutionsMissing", "PackagesOutstanding", "CredentialsExpiring")
"""The findings that are measured here. The others are measured where they happen."""

_NOT_LOADED = frozenset({"refused", "held", "failed"})
_DELIVERED = frozenset({"delivered", "already-delivered"})

GoodUntil = Callable[[str], datetime | None]
"""When the first of the certificates in a PEM text ends (adapters.certificate_dates)."""


class Limits(NamedTuple):
    """When something is late (the template's parameters of these names)."""

    night_deadline_hour: int
    export_deadline_days: int
    expiry_warning_days: int
    login_max_age_days: int
    """0: a login's age does not matter."""


class Finding(NamedTuple):
    """Something that needs action: ``alarm`` names what it is, ``subject`` whom or what it is about."""

    alarm: str
    subject: str
    what: str


class WatchedPartners(Protocol):
    """What is read of the PartnerTable."""

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included."""
        ...

    def receivers(self) -> list[Receiver]:
        """All receivers."""
        ...

    def datasets(self, institution: str | None = None) -> list[Dataset]:
        """All datasets."""
        ...

    def runs(self, flow: str, since: datetime) -> dict[str, dict[str, Any]]:
        """The runs of a flow that were started at that time or later, by name."""
        ...

    def outcomes(self, run: str) -> dict[str, dict[str, Any]]:
        """The outcomes of a run by subject."""
        ...

    def deliveries(self, quarter: str) -> dict[str, dict[str, Any]]:
        """The deliveries of a quarter by ``receiver#onBehalfOf``."""
        ...

    def credentials(self) -> list[Credential]:
        """What operators have handed over."""
        ...


def find(
    partners: WatchedPartners,
    lists: Sequence[RevocationList],
    good_until: GoodUntil,
    now: datetime,
    limits: Limits,
) -> list[Finding]:
    """Everything that needs action, in the order of the table above."""
    institutions = [one for one in partners.institutions() if not one.ended]
    found = [*_nights(partners, institutions, now, limits), *_packages(partners, now, limits)]
    authorities = [*_private_authorities(institutions), *((f"authority {one.name}", one.certificate) for one in lists)]
    ends = [(subject, end) for subject, pem in authorities if (end := good_until(pem)) is not None]
    found += _expiring(partners.credentials(), ends, now, limits)
    for one in lists:
        if is_old(one, now):
            problem = one.problem or "it has ended, and its authority has published no newer one"
            found.append(Finding("RevocationListsOld", f"revocation list {one.name}", problem))
    return found


def measure(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings there are of each kind that is measured here; 0 too, which says that somebody looked."""
    counted = Counter(finding.alarm for finding in findings)
    return {name: counted[name] for name in GAUGES}


def last_night(now: datetime, deadline_hour: int) -> datetime:
    """05:00 UTC of the last day whose deadline has passed."""
    deadline = now.astimezone(UTC).replace(hour=deadline_hour, minute=0, second=0, microsecond=0)
    day = deadline if deadline <= now else deadline - timedelta(days=1)
    return day.replace(hour=NIGHT_FROM.hour)


def _nights(
    partners: WatchedPartners, institutions: Sequence[Institution], now: datetime, limits: Limits
) -> Iterator[Finding]:
    night = last_night(now, limits.night_deadline_hour)
    fetched = [(one, provider) for one in institutions for provider in one.providers if _is_fetched(provider)]
    due = [provider for _, provider in fetched if (provider.since or "") < from_datetime(night)]
    runs = partners.runs("nightly", night)
    if due and not any(_is_whole_night(run) for run in runs.values()):
        yield Finding("NightOverdue", f"the night of {night:%Y-%m-%d}", _unfinished(runs))
    before = from_datetime(night - timedelta(days=1))
    datasets = {(one.institution, one.provider): one for one in partners.datasets()}
    for institution, provider in fetched:
        dataset = datasets.get((institution.institution, provider.provider))
        last = (dataset.last_run if dataset is not None else None) or {}
        accepted = None if dataset is None else dataset.fetch_start
        subject = f"{institution.name} ({institution.institution}), provider {provider.provider}"
        if (accepted or provider.since or "") < before:
            when = "never" if accepted is None else f"last on {_moment(accepted)}"
            yield Finding("InstitutionsMissing", subject, f"a dataset was accepted {when}; {_last(last)}")
        elif last.get("status") in _NOT_LOADED:
            yield Finding("DatasetsNotLoaded", subject, _last(last))


def _is_fetched(provider: Provider) -> bool:
    return provider.delivers_datasets and not provider.ended


def _is_whole_night(run: Mapping[str, Any]) -> bool:
    return run.get("state") == "finished" and run.get("whole", True)


def _unfinished(runs: Mapping[str, Mapping[str, Any]]) -> str:
    running = [name for name, run in runs.items() if run.get("state") == "running"]
    return f"not finished: run {', '.join(sorted(running))}" if running else "no run of all institutions was started"


def _last(outcome: Mapping[str, Any]) -> str:
    if not outcome:
        return "no run has tried it yet"
    return f"run {outcome.get('run')}: {outcome.get('status')}{_because(outcome)}"


def _because(outcome: Mapping[str, Any]) -> str:
    said = dict.fromkeys(str(outcome[name]) for name in ("error", "reason") if outcome.get(name))
    return f": {': '.join(said)}" if said else ""


def _packages(partners: WatchedPartners, now: datetime, limits: Limits) -> Iterator[Finding]:
    quarter = Quarter.of(now)
    deliveries = partners.deliveries(str(quarter))
    missing = [
        (receiver, on_behalf_of, key)
        for receiver in partners.receivers()
        for on_behalf_of in receiver.on_behalf_of
        if "deliveredAt" not in deliveries.get(key := f"{receiver.receiver}#{on_behalf_of}", {})
    ]
    last, outcomes = _exported(partners, quarter, {key for _, _, key in missing})
    late = now >= quarter.start + timedelta(days=limits.export_deadline_days)
    for receiver, on_behalf_of, key in missing:
        outcome = outcomes.get(key)
        subject = f"{receiver.name} ({receiver.receiver}) on behalf of {on_behalf_of}, {quarter}"
        was_due = receiver.since.get(on_behalf_of, "") < from_datetime(quarter.start)
        if late and was_due:
            nothing = "no export was started" if last is None else f"run {last} says nothing of it"
            yield Finding("PackagesOutstanding", subject, f"not delivered; {_last(outcome) if outcome else nothing}")
        elif outcome is not None and outcome.get("status") not in _DELIVERED:
            yield Finding("PackagesNotDelivered", subject, _last(outcome))


def _exported(
    partners: WatchedPartners, quarter: Quarter, missing: set[str]
) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """The last export of a quarter, and what the last one that came to each missing package said of it."""
    runs = {
        name: run for name, run in partners.runs("export", quarter.start).items() if run.get("quarter") == str(quarter)
    }
    newest_first = sorted(runs, key=lambda name: str(runs[name]["startedAt"]), reverse=True)
    said: dict[str, dict[str, Any]] = {}
    for run in newest_first:
        if missing <= said.keys():
            break
        said = partners.outcomes(run) | said
    return next(iter(newest_first), None), said


def _private_authorities(institutions: Sequence[Institution]) -> Iterator[tuple[str, str]]:
    for institution in institutions:
        for provider in institution.providers:
            if provider.ca is not None and not provider.ended:
                yield f"{institution.name} ({institution.institution}), caFile of {provider.provider}", provider.ca


def _expiring(
    credentials: Sequence[Credential], ends: Sequence[tuple[str, datetime]], now: datetime, limits: Limits
) -> Iterator[Finding]:
    warned = now + timedelta(days=limits.expiry_warning_days)
    for credential in credentials:
        if credential.until is not None:
            ends = [*ends, (credential.subject, to_datetime(credential.until))]
        elif limits.login_max_age_days:
            old = to_datetime(credential.since) + timedelta(days=limits.login_max_age_days)
            if old <= warned:
                what = f"in use since {credential.since[:10]}; to be changed by {old:%Y-%m-%d}"
                yield Finding("CredentialsExpiring", credential.subject, what)
    for subject, end in ends:
        if end <= warned:
            last_day = end - timedelta(microseconds=1)  # of what a receiver's file names, the end is the next midnight
            what = f"{'has ended' if end <= now else 'ends'} on {last_day:%Y-%m-%d}"
            yield Finding("CredentialsExpiring", subject, what)


def _moment(timestamp: str) -> str:
    return f"{to_datetime(timestamp):%Y-%m-%d %H:%M}Z"
