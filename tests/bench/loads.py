"""Nights: pages of a dataset to the register, with the real adapters and clients, on an AWS that answers at once."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from pathlib import Path
from typing import Any
from zlib import crc32

import boto3
import msgspec
from tests.bench.aws import Aws, Objects, Sink, Table
from tests.bench.measure import Aim, Counts, Row, Work, count, speed

from gjeldsbro.adapters import aws as clients
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import DatasetItems
from gjeldsbro.domain.customer_keys import HashKey, HashKeys, partition_key
from gjeldsbro.domain.dataset_page import read_page
from gjeldsbro.domain.page_records import PageRecords
from gjeldsbro.services.night.common import Job
from gjeldsbro.services.night.fetch import Fetcher, fetch_pages
from gjeldsbro.services.night.judge import judge_institution
from gjeldsbro.services.night.load import Loader, load_dataset
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.ports import Institution, Provider
from gjeldsbro_population.population import Population
from gjeldsbro_population.writers import page

CUSTOMERS = 100_000
PAGE = 20_000
OTHERS = 100_000
"""Items of other datasets, where the register is larger."""

KEYS = HashKeys.of(HashKey("1", b"k" * 64))
PERCENTS = (0, 1, 30)


def _changed_exactly(ours: Mapping[str, float], _: Mapping[str, float]) -> bool:
    return ours["written"] == ours["changed"] and ours["deleted"] == ours["gone"]


_ONLY_CHANGES = count("writes are the changes", _changed_exactly)
ROWS = (
    Row(
        f"first load of {CUSTOMERS:,} customers into DynamoDB",
        "loads.first_load",
        "boto3's batch_writer, one thread",
        "loads.batch_writer",
        (
            count("requests are records / 25", lambda ours, _: ours["requests"] == -(-ours["written"] // 25)),
            Aim("CPU at most 0.6", lambda ours, other: ours.cpu / other.cpu <= 0.6),
        ),
        rounds=3,
    ),
    *(
        Row(
            f"second night of {CUSTOMERS:,} customers, {percent} % changed",
            f"loads.second_night:{percent}",
            "the first night",
            "loads.first_night",
            (_ONLY_CHANGES,) if percent else (_ONLY_CHANGES, count("no write", lambda ours, _: ours["written"] == 0)),
            rounds=3,
        )
        for percent in PERCENTS
    ),
    Row(
        "the same, 0 % changed",
        "loads.second_night:0",
        "its pages fetched and checked, nothing else",
        "loads.only_read",
        (speed(0.8),),
        rounds=3,
    ),
    Row(
        f"the same, 1 % changed, {OTHERS:,} items of others in the register",
        "loads.among_others",
        "with none",
        "loads.alone",
        (speed(0.9),),
        rounds=3,
    ),
)


@dataclass
class _Clock:
    """Each look at it is a moment later."""

    now: datetime

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@dataclass
class _Place:
    """A dataset and what is stored of it, under a folder."""

    folder: Path
    register: Table | Sink = field(default_factory=Sink)

    def __post_init__(self) -> None:
        about = json.loads((self.folder.parent / "loads.json").read_text())
        self.institution, self.provider = about["institution"], about["provider"]
        self.start = datetime.fromisoformat(about["start"])
        self.changes = about["changes"]
        tables = self.folder / "partners.json"
        items = msgspec.json.decode(tables.read_bytes()) if tables.exists() else ()
        self.aws = Aws({"partners": Table(items), "register": self.register}, Objects(self.folder / "objects"))
        self.aws.install()
        self.partners = Partners("partners", clients.dynamodb())
        self.store = DataStore("data", clients.s3())

    def keep(self) -> None:
        """Keep what is in the tables, for another process."""
        partners = self.aws.tables["partners"]
        assert isinstance(partners, Table)
        (self.folder / "partners.json").write_bytes(msgspec.json.encode(partners.dump()))

    def fetch(self, night: str, days: int) -> Job:
        """Fetch, as ``fetch_pages`` does."""
        pages = sorted((self.folder.parent / "loads" / night).iterdir())
        clock = _Clock(self.start + timedelta(days=days))
        job = Job(night, self.institution, self.provider)

        class Source:
            @staticmethod
            def fetch_page(provider: Provider, institution: str, number: int, seconds: float) -> FetchedPage:
                body = pages[number].read_bytes()
                return FetchedPage(body, str(len(pages)), len(body))

        tools = Fetcher(self.partners, self.store, Source(), KEYS, "synthetic", clock, lambda: 900.0)  # type: ignore[arg-type]
        assert fetch_pages(job, "fetch", tools)
        return job

    def load(self, job: Job, days: int) -> Counts:
        """Judge and load, as the machine does."""
        clock = _Clock(self.start + timedelta(days=days, minutes=5))
        judged = judge_institution(
            job.run,
            job.institution,
            [job.provider],
            hold=True,
            records=self.partners,
            objects=self.store,
            clock=clock,
        )
        assert [step["provider"] for step in judged["datasets"]] == [job.provider]
        tools = Loader(
            self.partners,
            self.store,
            lambda version: DatasetItems("register", clients.dynamodb(), version),
            clock,
            lambda: 900.0,
        )
        assert load_dataset(job, tools)
        return self.counts(job.run)

    def counts(self, night: str) -> Counts:
        """What was asked of AWS, and what should have been written."""
        calls, changes = self.aws.counts, self.changes.get(night, {})
        outcome = self.partners.outcomes(night)[f"{self.institution}#{self.provider}"]
        assert outcome["status"] in {"loaded", "unchanged"}
        batches, written = calls["dynamodb.BatchWriteItem"], calls["items written in batches"]
        others = sum(number for name, number in calls.items() if name.startswith("dynamodb.")) - batches
        return Counts(
            requests=batches,
            written=written,
            deleted=calls["items deleted"],
            changed=changes.get("written", written),
            gone=changes.get("gone", 0),
            other=others,
            s3=sum(number for name, number in calls.items() if name.startswith("s3.")),
        )


def write_data(folder: Path) -> None:
    """Make the pages of four nights, and the state before and after the first."""
    population = Population(1, CUSTOMERS * 5 // 4, 1)
    institution, provider = population.datasets[0]
    subject = f"{institution}#{provider}"
    start = population.extracted_at + timedelta(hours=4)
    while crc32(subject.encode()) % 7 in {start.weekday(), (start.weekday() + 1) % 7}:
        start += timedelta(days=1)  # a night in which all is written is not a night like others
    everybody = list(population.customers(institution, provider))
    _write_pages(folder / "loads" / "first", provider, everybody[:CUSTOMERS])
    changes = {}
    for percent in PERCENTS:
        # Of the customers that differ a fifth are gone, a fifth are new, and the others have other figures.
        fifth = CUSTOMERS * percent // 500
        tonight = [_a_day_later(customer) for customer in everybody[fifth : CUSTOMERS + fifth]]
        changed = [_with_other_figures(customer) for customer in tonight[: 3 * fifth]]
        _write_pages(folder / "loads" / f"second-{percent}", provider, [*changed, *tonight[3 * fifth :]])
        written = [*changed, *tonight[CUSTOMERS - fifth :]]
        changes[f"second-{percent}"] = {"written": _with_loans(written), "gone": _with_loans(everybody[:fifth])}
    about = {"institution": institution, "provider": provider, "start": start.isoformat(), "changes": changes}
    (folder / "loads.json").write_text(json.dumps(about))
    known = _new_place(folder, "known")
    known.partners.put_institution(
        Institution(institution, "Bank", 100, (Provider(provider, url="https://bank.example.no"),))
    )
    known.keep()
    fetched = _copy_of(folder, "known", "fetched")
    fetched.fetch("first", 0)
    fetched.keep()
    loaded = _copy_of(folder, "fetched", "loaded")
    loaded.load(Job("first", institution, provider), 0)
    loaded.keep()


def _write_pages(folder: Path, provider: str, customers: Sequence[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    for number, some in enumerate(batched(customers, PAGE, strict=False)):
        (folder / f"{number:03}.json").write_bytes(page(provider, list(some)))


def _a_day_later(customer: dict[str, Any]) -> dict[str, Any]:
    loans = [{**loan, "timestamp": loan["timestamp"].replace("-05T", "-06T")} for loan in customer["loans"]]
    return {**customer, "loans": loans}


def _with_other_figures(customer: dict[str, Any]) -> dict[str, Any]:
    def altered(loan: dict[str, Any]) -> dict[str, Any]:
        name = "balance" if loan["type"] == "repaymentLoan" else "interestBearingBalance"
        return {**loan, name: loan[name] + 1}

    return {**customer, "loans": [altered(loan) for loan in customer["loans"]]}


def _with_loans(customers: Sequence[dict[str, Any]]) -> int:
    return sum(1 for customer in customers if customer["loans"])


def _new_place(folder: Path, name: str) -> _Place:
    (folder / name).mkdir()
    return _Place(folder / name)


def _copy_of(folder: Path, name: str, copy: str | None = None, register: Table | Sink | None = None) -> _Place:
    """A place like one that was made ready, which the caller may change."""
    place = Path(tempfile.mkdtemp(dir=folder)) if copy is None else folder / copy
    shutil.copytree(folder / name, place, dirs_exist_ok=True)
    return _Place(place, register or Sink())


def first_load(folder: Path) -> Work:
    """The load of a dataset that the register does not have: compared, listed, written, committed."""
    place = _copy_of(folder, "fetched")
    return lambda: place.load(Job("first", place.institution, place.provider), 0)


def batch_writer(folder: Path) -> Work:
    """The same items by the batch writer of a Table resource, from where they lie in memory."""
    about = json.loads((folder / "loads.json").read_text())
    institution, provider = about["institution"], about["provider"]
    now = datetime.fromisoformat(about["start"])
    rows: list[tuple[bytes, bytes]] = []
    for file in sorted((folder / "loads" / "first").iterdir()):
        read = read_page(
            file.read_bytes(),
            institution=institution,
            provider=provider,
            accepts="synthetic",
            now=now,
            keep=PageRecords(KEYS.keys[0]).of,
        )
        rows += [(key, record.removeprefix(key)) for key, _, record in read.kept if record]
    aws = Aws({"register": Sink()})
    session = boto3.Session()
    aws.attach(session._session)
    table = session.resource("dynamodb").Table("register")

    def work() -> Counts:
        with table.batch_writer() as batch:
            for customer, loans in rows:
                item = {"pk": partition_key("1", customer), "sk": f"D#{institution}#{provider}", "loans": loans}
                batch.put_item(Item={**item, "run": "first"})
        return Counts(requests=aws.counts["dynamodb.BatchWriteItem"], written=aws.counts["items written"])

    return work


def first_night(folder: Path) -> Work:
    """Pages of a dataset that the register does not have, to its commit."""
    place = _copy_of(folder, "known")
    return lambda: place.load(place.fetch("first", 0), 0)


def second_night(folder: Path, percent: str, register: Table | Sink | None = None) -> Work:
    """Pages of which so many customers have changed since the night before."""
    place = _copy_of(folder, "loaded", register=register)
    return lambda: place.load(place.fetch(f"second-{percent}", 1), 1)


def only_read(folder: Path) -> Work:
    """The pages of a night fetched, checked, sorted and stored."""
    place = _copy_of(folder, "loaded")
    return lambda: place.fetch("second-0", 1)


def alone(folder: Path) -> Work:
    """A night whose dataset is alone in a register that keeps what is written."""
    return second_night(folder, "1", Table())


def among_others(folder: Path) -> Work:
    """The same in a register that holds other datasets too."""
    others = Table()
    for number in range(OTHERS):
        others.put(
            {
                "pk": {"S": partition_key("1", number.to_bytes(32))},
                "sk": {"S": "D#985815534#9908:985815534"},
                "loans": {"B": b"x" * 200},
                "run": {"S": "first"},
            }
        )
    return second_night(folder, "1", others)
