"""A deployed stack with institutions and a receiver around it, and one story that all tests of this ring look at.

The story is told once, in the fixtures below, and in one order: two nights, pushes, an export, a lookup, and at the end
every sample event in the real Lambda runtime. Most tests only look; those that act, as operators do, change what others
could see. So this ring runs in the order of its files, and a run that passed passes again.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from tests.cloudformation import functions
from tests.e2e.audit import Audit
from tests.e2e.lambda_runtime import Answer, event_name, invoke, make_runtime

from gjeldsbro_local.certificates import Authority
from gjeldsbro_local.demo_lookup import somebody_in_debt
from gjeldsbro_local.sftp_server import SftpServer
from gjeldsbro_local.stack import ROOT, LocalStack
from gjeldsbro_operator.stack import STACK_FILE_VARIABLE
from gjeldsbro_population import Population, make_institutions
from gjeldsbro_population.population import Dataset
from gjeldsbro_simulator import ServedDataset, Simulator, Tls

BANK = "920013015"
OTHER_BANK = "985815534"
OURS = "983544622"
CONNECTION = "/debt-information/v1/connection"
PUSH = "/debt-information/v1/loans"
SEARCH = "/debt-search/v1/search"
REFERENCE = "application 2026-93"
SEED = 46
PEOPLE = 400
_COMMAND_SECONDS = 240
_MANNERS: list[dict[str, Any]] = [
    {"page_size": 50},
    {"compression": "spec-deflate", "numbers": "padded"},
    {"compression": "spec-raw-deflate", "numbers": "integers"},
    {"compression": "gzip", "page_size": 40},
    {"compression": "deflate"},
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep this ring in one process and in order, so that there is one stack, and begin with it, as it takes longest.

    Neither first nor last among the plugins: after pytest-randomly, which shuffles, and before pytest-xdist, which
    reads the groups.
    """
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.xdist_group("e2e"))
    last = here / "test_hash_key.py"  # after it, the next night of each dataset is not what the others expect
    ours.sort(key=lambda item: (item.path == last, item.path, item.location[1] or 0, item.name))
    items[:] = ours + [item for item in items if here not in item.path.parents]


@dataclass
class Parties:
    """The stack and everybody around it."""

    stack: LocalStack
    simulator: Simulator
    sftp: SftpServer
    directory: Path
    first_night: Population
    second_night: Population
    refused: Dataset
    accepted: list[dict[str, Any]] = field(default_factory=list)

    @property
    def down(self) -> Dataset:
        """The dataset whose server answers 503 after the second night."""
        return self.first_night.datasets[2]

    @property
    def asked(self) -> Dataset:
        """The dataset whose institution is always asked: the nights fetch a list of its customers only."""
        return self.first_night.datasets[4]

    @property
    def instead(self) -> dict[Dataset, Population | None]:
        """What was refused on the second night leaves the first night's data in use."""
        return {self.refused: self.first_night}

    def gjeldsbro(self, *arguments: str, status: int = 0) -> Any:
        """The operator command's JSON; fails the test when the exit status is another one."""
        done = subprocess.run(
            [str(ROOT / ".venv" / "bin" / "gjeldsbro"), "--local", "--json", *arguments],
            env={**os.environ, STACK_FILE_VARIABLE: str(self.stack.stack_file)},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == status, f"{arguments[:2]}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout else None

    def onboard(self, kind: str, identifier: str, name: str, **values: Any) -> None:
        """Write an institution, lender or receiver file and hand it to the operator command."""
        head = {"financialInstitutionID" if kind == "institution" else kind: identifier, "name": name}
        path = self.directory / f"{kind}-{identifier.replace(':', '-')}.yaml"
        path.write_text(yaml.safe_dump({**head, **values}, allow_unicode=True), encoding="utf-8")
        self.gjeldsbro(kind, "put", str(path))

    def certificate(self, organisation: str | None, **values: Any) -> tuple[str, str]:
        """Files of a client certificate that the gateway lets in."""
        issued = self.stack.client_ca.issue_client(organisation, **values)
        files = issued.write(self.directory, f"client-{organisation}")
        return str(files.cert_file), str(files.key_file)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        certificate: tuple[str, str] | None,
    ) -> requests.Response:
        """A request through the gateway."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self.stack.gateway_url}{path}",
                data=body,
                headers=headers,
                cert=certificate,
                verify=str(self.stack.gateway_ca_file),
                timeout=60,
            )

    def notices(self, **how: Any) -> list[Any]:
        """What waits for the notification service; it goes on waiting."""
        queues, url = self.stack.client("sqs"), self.stack.outputs["NoticeQueueUrl"]
        found = queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, **how)
        return [json.loads(message["Body"]) for message in found.get("Messages", [])]

    def push(self, message: Any, organisation: str | None = BANK, **headers: str) -> requests.Response:
        """Push a message, in the name of an organisation."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        headers = {"Content-Type": "application/json", **headers}
        return self.call("POST", PUSH, body=body, headers=headers, certificate=self.certificate(organisation))

    def search(self, request: Any, organisation: str | None = OTHER_BANK, **headers: str) -> requests.Response:
        """Look somebody up, in the name of an organisation."""
        headers = {"Content-Type": "application/json", **headers}
        certificate = self.certificate(organisation)
        return self.call("POST", SEARCH, body=json.dumps(request).encode(), headers=headers, certificate=certificate)


@pytest.fixture(scope="session")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    """A stack of this run's own, institutions over HTTPS that ask for our certificate, and a receiver's SSH server."""
    directory = tmp_path_factory.mktemp("e2e")
    now = datetime.now(UTC)
    bank, other, *rest = make_institutions(SEED, 7)
    institutions = (
        replace(bank, institution=BANK, providers=(f"9908:{BANK}",)),
        replace(other, institution=OTHER_BANK, providers=(f"9908:{OTHER_BANK}",)),
        *rest,
    )
    first_night = Population(SEED, PEOPLE, institutions, extracted_at=now - timedelta(hours=27))
    served = [
        ServedDataset(institution=institution, provider=provider, **_MANNERS[index % len(_MANNERS)])
        for index, (institution, provider) in enumerate(first_night.datasets)
    ]
    authority = Authority.create("Institutions")
    authority.write(directory, "institutions-ca")
    server = authority.issue_server().write(directory, "institutions")
    with (
        LocalStack(directory / "stack") as stack,
        SftpServer(directory / "sftp") as sftp,
        Simulator(
            first_night, served, tls=Tls(server.cert_file, server.key_file, stack.client_ca_files.cert_file)
        ) as simulator,
    ):
        second_night = first_night.changed(2, 3, extracted_at=now - timedelta(hours=3))
        found = Parties(stack, simulator, sftp, directory, first_night, second_night, refused=first_night.datasets[-1])
        found.gjeldsbro("certificate", "put", *found.certificate(OURS, name="Gjeldsbro AS"))
        for institution in institutions:
            providers = [
                {"providerID": provider, "url": simulator.provider_url(provider), "caFile": "institutions-ca.pem"}
                for provider in institution.providers
            ]
            values: dict[str, Any] = {"providers": providers}
            if institution.institution == found.asked[0]:
                values = {"lookup": "live", "providers": [{**provider, "dataset": "ssn"} for provider in providers]}
            found.onboard("institution", institution.institution, institution.name, **values)
        found.onboard("lender", BANK, "Testbanken AS")
        found.onboard("lender", OTHER_BANK, "Andrebanken AS", onBehalfOf=[BANK])
        yield found


@dataclass(frozen=True)
class Nights:
    """What the operator command told about two nights: an outcome per dataset."""

    first: dict[Dataset, dict[str, Any]]
    second: dict[Dataset, dict[str, Any]]
    audit: Audit
    """What the stack says of the first."""


@pytest.fixture(scope="session")
def nights(parties: Parties) -> Nights:
    """A first night, and a second one with changes, on which one institution delivers a negative amount."""
    audit = Audit(parties.stack)
    with audit.recorded("PlanNight", "FetchPages", "JudgeInstitution", "LoadDataset", "ReportNight"):
        first = parties.gjeldsbro("nightly", "run", "--wait")
    parties.simulator.serve(parties.second_night)
    parties.simulator.misbehave(parties.refused[0], "negative-amount", parties.refused[1])
    second = parties.gjeldsbro("nightly", "run", "--wait", status=1)
    parties.simulator.behave()
    return Nights(_by_dataset(first), _by_dataset(second), audit)


def page_size(dataset: Dataset, parties: Parties) -> int | None:
    """Customers of a page of that dataset; None: all come in one."""
    return _MANNERS[parties.first_night.datasets.index(dataset) % len(_MANNERS)].get("page_size")


def _by_dataset(told: dict[str, Any]) -> dict[Dataset, dict[str, Any]]:
    return {(outcome["institution"], outcome["provider"]): outcome for outcome in told["datasets"]}


@pytest.fixture(scope="session")
def unavailable(parties: Parties, nights: Nights) -> dict[str, Any]:
    """A third fetch of one institution, whose server answers 503 by now: it goes on beside the rest of the story."""
    parties.simulator.misbehave(parties.down[0], "status:503", parties.down[1])
    return parties.gjeldsbro("nightly", "run", "--institution", parties.down[0])


@pytest.fixture(scope="session")
def pushed(parties: Parties, nights: Nights) -> list[requests.Response]:
    """The answers to pushes of new, changed and repaid loans after the second night."""
    messages = parties.second_night.pushes(BANK, f"9908:{BANK}", datetime.now(UTC), count=6)
    parties.accepted += messages
    return [parties.push(message) for message in messages]


@pytest.fixture(scope="session")
def connected(parties: Parties, pushed: list[requests.Response]) -> requests.Response:
    """The bank's connection check after that; the sample events below report a failure of its fetch."""
    return parties.call("GET", CONNECTION, certificate=parties.certificate(BANK))


@dataclass(frozen=True)
class Exported:
    """What an export told, and what is in the receiver's folder afterwards."""

    told: dict[str, Any]
    files: dict[str, bytes]
    lists: dict[str, list[str]]


@pytest.fixture(scope="session")
def exported(parties: Parties, pushed: list[requests.Response], unavailable: dict[str, Any]) -> Exported:
    """An export with a good list, one with faults, and one that is missing."""
    receiver, second, missing = (one.institution for one in parties.first_night.institutions[2:5])
    parties.onboard(
        "receiver",
        receiver,
        "Mottakerbanken AS",
        onBehalfOf=[receiver, second, missing],
        sftp={
            "url": parties.sftp.url,
            "hostKeys": [parties.sftp.host_key],
            "privateKeyFile": str(parties.sftp.private_key_file),
        },
    )
    numbers = list(parties.second_night.customer_ids)
    lists = {receiver: numbers[:300], second: numbers[300:340]}
    (parties.sftp.folder / f"{receiver}.txt").write_text(",".join(lists[receiver]))
    faulty = [*lists[second], "12345", lists[second][0], "abc"]
    (parties.sftp.folder / f"{second}.txt").write_bytes(b"\xef\xbb\xbf" + ",\r\n ".join(faulty).encode() + b",\r\n")
    told = parties.gjeldsbro("export", "run", "--wait", status=1)
    files = {path.name: path.read_bytes() for path in parties.sftp.folder.iterdir()}
    return Exported(told, files, lists)


@pytest.fixture(scope="session")
def shown(parties: Parties, exported: Exported) -> dict[str, Any]:
    """A look-up by an operator, with the trail afterwards."""
    number = parties.second_night.customer_ids[3]
    parties.gjeldsbro("show-customer", number, "--reason", "inquiry 17")
    return parties.gjeldsbro("trail")


@dataclass(frozen=True)
class LookedUp:
    """A lookup while an institution is down: whom, what was answered, and what the subscriber to the bus got."""

    person: str
    institutions: list[str]
    later: Population
    answer: requests.Response
    events: list[dict[str, Any]]
    record: dict[str, Any]
    """What an operator is shown of the person's lookups after that."""


@pytest.fixture(scope="session")
def looked_up(parties: Parties, exported: Exported) -> LookedUp:
    """A lender looks somebody up with debt at three institutions, one of which answers 503.

    The others say something else by now than in the night.
    """
    pushed = {customer["customerID"] for message in parties.accepted for customer in message["customers"]}
    person, institutions, later = somebody_in_debt(
        parties.second_night, at=parties.down[0], but=pushed, not_at=parties.refused[0]
    )
    parties.simulator.serve(later)
    request = {"ssn": person, "referenceID": REFERENCE, "maxTimeToWait": 10000, "onBehalfOfOrganization": BANK}
    answer = parties.search({**request, "purpose": "changeOfTerms", "messageToCustomer": "Nye vilkår"})
    parties.simulator.serve(parties.second_night)
    events = parties.notices(WaitTimeSeconds=10)
    record = parties.gjeldsbro("lookups", person, "--reason", "inquiry 18")
    return LookedUp(person, institutions, later, answer, events, record)


@pytest.fixture(scope="session")
def second_receiver(parties: Parties, exported: Exported) -> Iterator[SftpServer]:
    """The receiver that the sample events name, with one list."""
    with SftpServer(parties.directory / "second-sftp") as sftp:
        (sftp.folder / f"{OTHER_BANK}.txt").write_text(",".join(parties.second_night.customer_ids[:20]))
        server = {"url": sftp.url, "hostKeys": [sftp.host_key], "privateKeyFile": str(sftp.private_key_file)}
        parties.onboard("receiver", BANK, "Testbanken AS", onBehalfOf=[OTHER_BANK], sftp=server)
        yield sftp


@pytest.fixture(scope="session")
def answers(
    parties: Parties,
    connected: requests.Response,
    shown: dict[str, Any],
    looked_up: LookedUp,
    second_receiver: SftpServer,
) -> dict[str, Answer]:
    """What each function made of its sample event in the real Lambda runtime, in the order of the flows."""
    runtime = make_runtime(parties.directory / "runtime")
    events = {function: ROOT / "events" / f"{event_name(function)}.json" for function in functions()}
    return {function: invoke(parties.stack, function, path.read_bytes(), runtime) for function, path in events.items()}
