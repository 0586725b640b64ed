"""What the register shows: a pure function of its items and of each dataset's ``asOf`` (design decision 4).

Nightly data and pushes are separate items, so that neither can overwrite the other. Nothing here compares anything but
timestamps in the fixed form of ``domain.timestamps`` (and content digests where those are equal): the order in which
items are read, and in which messages came, makes no difference.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gjeldsbro.domain.loans import Loan, Source, account_of, content_digest, is_debt

Account = tuple[str, str]
"""(type, accountID): what tells the loans of one customer at one institution apart."""

DatasetTimes = Mapping[str, str | None]
"""For one institution: ``asOf`` of each provider that delivers datasets, None while nothing of it was committed yet.

A provider that is not in it only pushes. One that was removed stays in it for as long as its data does.
"""

MAX_LOANS_BYTES = 380_000
"""Encoded loans of one customer, institution and provider: DynamoDB's limit of 400 KB, less room for the attributes."""

_NOTHING_KNOWN = ""
"""Sorts before every timestamp."""


class DatasetItem(NamedTuple):
    """What the nightly dataset of one provider says of one customer at one institution.

    Without loans it says no more than that the institution has the customer, and is to be asked.
    """

    institution: str
    provider: str
    loans: tuple[Loan, ...]


class PushItem(NamedTuple):
    """The newest push of one provider about one loan of a customer at one institution."""

    institution: str
    provider: str
    loan: Loan


Item = DatasetItem | PushItem


class StoredItem(NamedTuple):
    """An item as it lies in the register: under which version of the hash key, and what it says.

    Only ``in_force`` tells which of a customer's stored items say anything.
    """

    version: int
    item: Item


Subject = tuple[str, str]
"""(institution, provider): whose dataset."""


class CurrentLoan(NamedTuple):
    """A loan that counts as debt now, how fresh it is (``effective``), and whose word that is."""

    loan: Loan
    effective: str
    provider: str
    source: Source


class Merged(NamedTuple):
    """Current loans per institution, in the order of (type, accountID); an institution without debt is not in it.

    ``conflicts`` counts the accounts of which two providers of one institution say different things.
    """

    loans: dict[str, list[CurrentLoan]]
    conflicts: int


def is_index_only(item: Item) -> bool:
    """Whether the item says no more than that the institution has the customer."""
    return isinstance(item, DatasetItem) and not item.loans


def in_force(stored: Iterable[StoredItem], versions: Mapping[Subject, int]) -> list[Item]:
    """What a customer's stored items say while the hash key is being rotated (decision record 0021).

    A dataset that moves to a new key is written under it beside what lies under the old one; then its record says the
    new version, and then the old items are deleted. ``versions`` are what the records said before the items were read
    (none: 0). So an item below its dataset's version says nothing any more, and of the others the newest version is the
    newest word. Pushes do not move: the newest push about a loan counts, whatever version it lies under.
    """
    newest: dict[tuple[str, ...], StoredItem] = {}
    for one in stored:
        item = one.item
        if isinstance(item, DatasetItem):
            if one.version < versions.get((item.institution, item.provider), 0):
                continue
            name: tuple[str, ...] = (item.institution, item.provider)
        else:
            name = (item.institution, item.provider, *account_of(item.loan))
        before = newest.get(name)
        if before is None or _is_newer(one, before):
            newest[name] = one
    return [one.item for one in newest.values()]


def outdated_pushes(stored: Iterable[StoredItem], told: Iterable[PushItem], version: int) -> list[StoredItem]:
    """Stored pushes that lie under another version of the hash key than a newer word of the same provider on that loan.

    ``told`` are pushes that have just been stored, under ``version``; under the same one they replaced what was there.
    """
    found = {(_push_name(one.item), one.version): one for one in stored if isinstance(one.item, PushItem)}
    found |= {(_push_name(item), version): StoredItem(version, item) for item in told}
    newest: dict[tuple[str, ...], StoredItem] = {}
    for (name, _), one in found.items():
        if name not in newest or _is_newer(one, newest[name]):
            newest[name] = one
    return [one for (name, _), one in found.items() if newest[name] is not one]


def _push_name(item: Item) -> tuple[str, ...]:
    assert isinstance(item, PushItem)
    return (item.institution, item.provider, *account_of(item.loan))


def _is_newer(one: StoredItem, other: StoredItem) -> bool:
    """Of two words on the same: which is the newer one."""
    if isinstance(one.item, PushItem) and isinstance(other.item, PushItem):
        return (push_version(one.item.loan), one.version) > (push_version(other.item.loan), other.version)
    return one.version > other.version


def dataset_as_of(
    earliest: str | None,
    latest: str | None,
    previous_as_of: str | None,
    previous_fetch_start: str | None,
    fetch_start: str,
) -> str:
    """The instant from which a dataset speaks for everything in it and for everything that is missing from it.

    ``earliest`` and ``latest`` are the loans' timestamps, None in a dataset without loans. The previous fetch is the
    last one that was committed. Most institutions stamp all loans with the time of extraction; some stamp some of them
    with older times, and then a timestamp later than the previous fetch still proves that the dataset was made after
    it. The result never goes back and does not lie after the fetch, whatever the institution's clock says.
    """
    if earliest is None or latest is None:
        as_of = fetch_start
    else:
        as_of = min(earliest, fetch_start)
        if previous_fetch_start is not None and latest > previous_fetch_start:
            as_of = max(as_of, previous_fetch_start)
    return as_of if previous_as_of is None else max(as_of, previous_as_of)


def cover_of(provider: str, datasets: DatasetTimes) -> str | None:
    """The instant up to which the institution's datasets make pushes of ``provider`` superfluous, None for nothing.

    That is its own dataset's ``asOf``; for a provider without datasets the smallest of the institution's, because
    nobody knows which of them carries the loan. A dataset of which nothing was committed yet covers nothing.
    """
    if provider in datasets:
        return datasets[provider]
    times = list(datasets.values())
    known = [time for time in times if time is not None]
    return min(known) if known and len(known) == len(times) else None


def is_superseded(timestamp: str, cover: str | None) -> bool:
    """Whether a dataset tells all that a push of ``timestamp`` told; the commit of the dataset deletes such pushes."""
    return cover is not None and timestamp <= cover


def dataset_loan_times(items: Iterable[Item], datasets: DatasetTimes) -> dict[Account, str]:
    """The newest effective time that one institution's datasets give each account of one customer.

    ``items`` and ``datasets`` are those of that institution.
    """
    newest: dict[Account, str] = {}
    for item in items:
        if isinstance(item, DatasetItem):
            as_of = datasets.get(item.provider) or _NOTHING_KNOWN
            for loan in item.loans:
                account = account_of(loan)
                newest[account] = max(newest.get(account, _NOTHING_KNOWN), loan.timestamp, as_of)
    return newest


def push_counts(loan: Loan, cover: str | None, dataset_times: Mapping[Account, str]) -> bool:
    """Whether a push is newer than its cover and than what ``dataset_loan_times`` says of the same account."""
    if is_superseded(loan.timestamp, cover):
        return False
    return loan.timestamp > dataset_times.get(account_of(loan), _NOTHING_KNOWN)


def push_version(loan: Loan) -> str:
    """What orders pushes about one account: the timestamp, and the content digest where timestamps are equal."""
    return f"{loan.timestamp}#{content_digest(loan).hex()}"


def merge(items: Iterable[Item], datasets: Mapping[str, DatasetTimes]) -> Merged:
    """What the register shows of one customer.

    ``datasets`` holds the ``DatasetTimes`` of each institution, read before ``items``. Per account the newest effective
    time wins, and only then is asked whether what it says is debt: a push that says repaid hides the dataset's loan.
    """
    by_institution: dict[str, list[Item]] = {}
    for item in items:
        by_institution.setdefault(item.institution, []).append(item)
    loans: dict[str, list[CurrentLoan]] = {}
    conflicts = 0
    for institution in sorted(by_institution):
        claims = _claims(by_institution[institution], datasets.get(institution, {}))
        current: list[CurrentLoan] = []
        for account in sorted(claims):
            candidates = claims[account]
            newest = candidates[0] if len(candidates) == 1 else max(candidates, key=_precedence)
            if is_debt(newest.loan, newest.source):
                current.append(newest)
            conflicts += _is_conflict(candidates)
        if current:
            loans[institution] = current
    return Merged(loans, conflicts)


def current_loans(items: Iterable[Item], datasets: Mapping[str, DatasetTimes]) -> dict[str, list[CurrentLoan]]:
    """The loans of ``merge``: what counts as debt of one customer, per institution."""
    return merge(items, datasets).loans


def _claims(items: list[Item], datasets: DatasetTimes) -> dict[Account, list[CurrentLoan]]:
    """Everything that one institution's datasets and counting pushes say of each account."""
    claims: dict[Account, list[CurrentLoan]] = {}
    for item in items:
        if isinstance(item, DatasetItem):
            as_of = datasets.get(item.provider) or _NOTHING_KNOWN
            for loan in item.loans:
                claim = CurrentLoan(loan, max(loan.timestamp, as_of), item.provider, "dataset")
                claims.setdefault(account_of(loan), []).append(claim)
    dataset_times = {account: max(claim.effective for claim in found) for account, found in claims.items()}
    for item in items:
        if isinstance(item, PushItem) and push_counts(item.loan, cover_of(item.provider, datasets), dataset_times):
            claim = CurrentLoan(item.loan, item.loan.timestamp, item.provider, "push")
            claims.setdefault(account_of(item.loan), []).append(claim)
    return claims


def _precedence(claim: CurrentLoan) -> tuple[str, bytes, str]:
    """The newest, then the greater content digest; the provider's name only makes the choice of equal ones definite."""
    return claim.effective, content_digest(claim.loan), claim.provider


def _is_conflict(claims: list[CurrentLoan]) -> bool:
    """Whether two providers' newest words on an account differ."""
    if len(claims) == 1:
        return False
    word: dict[str, CurrentLoan] = {}
    for claim in sorted(claims, key=_precedence):
        word[claim.provider] = claim
    return len({content_digest(claim.loan) for claim in word.values()}) > 1
