"""Every command of docs/runbook.md, word for word, in the state that its entry is about: caused, seen, mended.

The commands run in this process, to save their start. All other institutions and receivers are put aside meanwhile.
"""

import io
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.revocation_server import RevocationServer

from gjeldsbro.adapters.aws import from_item, to_item
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.ports import Credential
from gjeldsbro_local.certificates import Authority
from gjeldsbro_local.sftp_server import SftpServer
from gjeldsbro_local.stack import ROOT
from gjeldsbro_operator import main as command
from gjeldsbro_operator.stack import STACK_FILE_VARIABLE
from gjeldsbro_population import Population, make_institutions
from gjeldsbro_simulator import Simulator

OURS = "983544622"
LONG_AGO = from_datetime(datetime(2024, 1, 1, tzinfo=UTC))
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PUT_ASIDE = ("INSTITUTION", "RECEIVER", "REVOCATION", "CREDENTIAL")


@cache
def entries() -> dict[str, dict[str, list[str]]]:
    """The blocks of commands of each entry: {heading: {"See" or "Act": [block, …]}}; only those that have some."""
    found = {}
    for section in re.split(r"^(?=##+ )", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE):
        heading = section.partition("\n")[0].lstrip("# ")
        parts = re.split(r"\*\*(See|Act)\.\*\*", section)
        named = dict(zip(parts[1::2], parts[2::2], strict=True)) or {"See": section}
        blocks = {part: _BLOCK.findall(text) for part, text in named.items()}
        if any(blocks.values()):
            found[heading] = blocks
    return found


def test_every_entry_is_tried_below() -> None:
    """A new entry with commands needs a test that causes its state."""
    tried = set(re.findall(r'runbook\("([^"]+)"', Path(__file__).read_text()))
    assert tried == entries().keys()


@dataclass
class Entry:
    """An entry that a test tries: each of its blocks must have been run in the end."""

    blocks: dict[str, list[str]]
    variables: dict[str, str]
    left: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """All blocks are to be run."""
        self.left = {(part, number) for part, blocks in self.blocks.items() for number in range(len(blocks))}

    def see(self, *expected: str) -> str:
        """Run what is under See; each of these words must be shown. Its commands may end with 1."""
        shown = "".join(self._run("See", number)[1] for number in range(len(self.blocks["See"])))
        missing = [word for word in expected if word not in shown]
        assert not missing, f"{missing} not in\n{shown}"
        return shown

    def act(self, number: int = 0, status: int = 0) -> str:
        """Run a block that is under Act; its last command's exit status must be this."""
        statuses, shown = self._run("Act", number)
        assert statuses[-1] == status, shown
        assert set(statuses[:-1]) <= {0}, shown
        return shown

    def _run(self, part: str, number: int) -> tuple[list[int], str]:
        self.left.discard((part, number))
        statuses, printed = [], io.StringIO()
        for line in self.blocks[part][number].splitlines():
            name, *words = shlex.split(line)
            assert name == "gjeldsbro", f"only the operator command can be tried here: {line}"
            arguments = [re.sub(r"\$(\w+)", lambda found: self.variables[found[1]], word) for word in words]
            printed.write(f"$ {line}\n")
            with redirect_stdout(printed), redirect_stderr(printed):
                statuses.append(command.main(["--local", *arguments]))
        return statuses, printed.getvalue()


@dataclass
class Bank:
    """The one institution of these tests, which is a receiver too."""

    parties: Any
    institution: str
    provider: str
    population: Population
    simulator: Simulator
    sftp: SftpServer
    variables: dict[str, str]

    @property
    def partners(self) -> Partners:
        """The stack's PartnerTable."""
        return Partners(self.table, self.parties.stack.client("dynamodb"))

    @property
    def table(self) -> str:
        """Its name."""
        return str(self.parties.stack.outputs["PartnerTableName"])

    def edit(self, pk: str, sk: str, **values: Any) -> dict[str, Any]:
        """Change attributes of an item, as time or somebody else would have (None removes one); what it was before."""
        client = self.parties.stack.client("dynamodb")
        key = to_item({"pk": pk, "sk": sk})
        item = client.get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item", key)
        changed = {**from_item(item), **values}
        kept = {name: value for name, value in changed.items() if value is not None}
        client.put_item(TableName=self.table, Item=to_item(kept))
        return from_item(item)

    def night(self, status: int = 0) -> str:
        """Fetch the institution; the run's name."""
        told = self.parties.gjeldsbro("nightly", "run", "--institution", self.institution, "--wait", status=status)
        self.variables["RUN"] = told["run"]
        return str(told["datasets"][0]["status"])

    def not_delivered(self) -> None:
        """As if nothing had been delivered in this quarter."""
        client = self.parties.stack.client("dynamodb")
        key = {"pk": f"DELIVERY#{Quarter.of(datetime.now(UTC))}", "sk": f"{self.institution}#{self.institution}"}
        client.delete_item(TableName=self.table, Key=to_item(key))

    def export(self, status: int = 0) -> dict[str, Any]:
        """Export to the receiver; the outcome of its delivery."""
        told = self.parties.gjeldsbro("export", "run", "--receiver", self.institution, "--wait", status=status)
        self.variables["RUN"] = told["run"]
        return dict(told["deliveries"][0])

    def fails(self, machine: str, request: dict[str, Any]) -> None:
        """Run a flow with a request that it cannot plan, and wait for its end."""
        client = self.parties.stack.client("stepfunctions")
        started = client.start_execution(
            stateMachineArn=self.parties.stack.outputs[machine], input=json.dumps(request)
        )["executionArn"]
        ends = datetime.now(UTC) + timedelta(seconds=120)
        while client.describe_execution(executionArn=started)["status"] == "RUNNING":
            assert datetime.now(UTC) < ends
        assert client.describe_execution(executionArn=started)["status"] == "FAILED"


@contextmanager
def put_aside(parties: Any) -> Iterator[None]:
    """Take everybody else out of the PartnerTable for a while, when no run needs them."""
    client, table = parties.stack.client("dynamodb"), parties.stack.outputs["PartnerTableName"]
    states, until = parties.stack.client("stepfunctions"), time.monotonic() + 180
    for machine in ("NightlyFetchStateMachineArn", "QuarterlyExportStateMachineArn"):
        asked = {"stateMachineArn": parties.stack.outputs[machine], "statusFilter": "RUNNING"}
        while states.list_executions(**asked)["executions"]:
            assert time.monotonic() < until
            time.sleep(0.5)

    def items() -> list[dict[str, Any]]:
        found = []
        for pk in PUT_ASIDE:
            asked = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": to_item({":pk": pk})}
            found += client.query(TableName=table, ConsistentRead=True, **asked)["Items"]
        return found

    def clear() -> list[dict[str, Any]]:
        there = items()
        for item in there:
            client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
        return there

    others = clear()
    try:
        yield
    finally:
        clear()
        for item in others:
            client.put_item(TableName=table, Item=item)


@pytest.fixture(scope="module")
def bank(parties, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """An institution that was fetched once, as the only one, and a receiver of one package, with a list."""
    directory = tmp_path_factory.mktemp("runbook")
    (described,) = make_institutions(91, 1)
    population = Population(91, 140, (described,), extracted_at=datetime.now(UTC) - timedelta(hours=2))
    ((institution, provider),) = population.datasets
    assert population.count_with_loans(institution, provider) >= 100, "smaller ones are never held"
    files = parties.certificate(OURS, name="Gjeldsbro AS")
    variables = dict(zip(("CERT", "KEY"), files, strict=True)) | {"INSTITUTION": institution, "RECEIVER": institution}
    with put_aside(parties), Simulator(population) as simulator, SftpServer(directory / "sftp") as sftp:
        (sftp.folder / f"{institution}.txt").write_text(",".join(population.customer_ids[:20]))
        found = Bank(parties, institution, provider, population, simulator, sftp, variables)
        providers = [{"providerID": provider, "url": simulator.provider_url(provider)}]
        parties.onboard("institution", institution, "Vaktbanken AS", providers=providers)
        server = {"url": sftp.url, "hostKeys": [sftp.host_key], "privateKeyFile": str(sftp.private_key_file)}
        parties.onboard("receiver", institution, "Vaktbanken AS", onBehalfOf=[institution], sftp=server)
        assert found.night() == "loaded"
        yield found
        parties.gjeldsbro("institution", "remove", institution, "--wait")


@pytest.fixture
def runbook(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Entry]]:
    """Opens an entry; in the end all of it must have been run."""
    monkeypatch.setenv(STACK_FILE_VARIABLE, str(bank.parties.stack.stack_file))
    opened: list[Entry] = []

    def open_entry(heading: str, **variables: str) -> Entry:
        opened.append(Entry(entries()[heading], bank.variables | variables))
        opened[-1].variables = _Together(variables, bank.variables)
        return opened[-1]

    yield open_entry
    assert [sorted(entry.left) for entry in opened] == [[] for _ in opened]


class _Together(dict[str, str]):
    """A test's own variables, and those of the bank as they are when they are asked for."""

    def __init__(self, own: dict[str, str], later: dict[str, str]) -> None:
        super().__init__(own)
        self._later = later

    def __missing__(self, name: str) -> str:
        return self._later[name]


def status(runbook: Callable[..., Entry]) -> str:
    """What `gjeldsbro status` shows."""
    return runbook("Runbook").see()


def test_status_is_where_to_begin(runbook, bank) -> None:
    """When nothing is wrong it says so."""
    assert bank.night() in {"loaded", "unchanged"}
    bank.export()
    assert "Nothing needs action." in status(runbook)


def test_a_night_that_failed_as_a_whole(runbook, bank) -> None:
    """The function's log says why; a night is started again."""
    bank.fails("NightlyFetchStateMachineArn", {"institution": "000000000"})
    entry = runbook("NightlyFetchFailed")
    entry.see("there is no such institution", "ConfigurationError", bank.institution)
    entry.act()


def test_a_night_that_is_overdue(runbook, bank) -> None:
    """After the deadline without a night of all institutions; one that is started ends it."""
    client = bank.parties.stack.client("dynamodb")
    asked = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": to_item({":pk": "RUN#nightly"})}
    for item in client.query(TableName=bank.table, **asked)["Items"]:
        bank.edit("RUN#nightly", from_item(item)["sk"], startedAt=LONG_AGO)
    (provider,) = bank.edit("INSTITUTION", bank.institution)["providers"]
    bank.edit("INSTITUTION", bank.institution, providers=[{**provider, "since": LONG_AGO}])
    entry = runbook("NightOverdue")
    entry.see("NightOverdue", "no run of all institutions was started", "plan_night")
    entry.act()
    assert "NightOverdue" not in status(runbook)


def test_a_dataset_that_is_refused(runbook, bank) -> None:
    """The alarm's entry and the state's: the place and the rule are shown, and a good dataset ends it."""
    bank.simulator.misbehave(bank.institution, "negative-amount", bank.provider)
    try:
        assert bank.night(status=1) == "refused"
    finally:
        bank.simulator.behave()
    runbook("DatasetsNotLoaded").see("refused", bank.institution)
    runbook("What a night can say of a dataset").see("refused", "/customers/")
    entry = runbook("A dataset that is refused")
    entry.see('"violations"', "/customers/")
    assert "DatasetsNotLoaded" in status(runbook)
    entry.act()
    assert "DatasetsNotLoaded" not in status(runbook)


def test_a_dataset_that_is_missing_for_two_nights(runbook, bank) -> None:
    """It is named with its last accepted dataset; a good one ends it."""
    bank.edit("DATASET", f"{bank.institution}#{bank.provider}", fetchStart=LONG_AGO)
    entry = runbook("InstitutionsMissing")
    entry.see("InstitutionsMissing", "last on 2024-01-01", bank.provider)
    entry.act()
    assert "InstitutionsMissing" not in status(runbook)


def test_a_dataset_that_failed(runbook, bank) -> None:
    """Something is not set up: the reason says what; mended, it is fetched."""
    (provider,) = bank.edit("INSTITUTION", bank.institution)["providers"]
    bank.edit("INSTITUTION", bank.institution, providers=[{**provider, "url": "ftp://127.0.0.1"}])
    assert bank.night(status=1) == "failed"
    bank.edit("INSTITUTION", bank.institution, providers=[provider])
    entry = runbook("A dataset that failed")
    entry.see("ConfigurationError", "is not https")
    entry.act()


def test_a_dataset_that_is_held(runbook, bank) -> None:
    """The institution confirms that it has fewer customers now; its dataset is taken."""
    bank.simulator.misbehave(bank.institution, "shrink", bank.provider)
    try:
        assert bank.night(status=1) == "held"
        entry = runbook("A dataset that is held")
        entry.see("held")
        entry.act()
    finally:
        bank.simulator.behave()
    assert bank.night() == "loaded"


@pytest.mark.parametrize("heading", ["A dataset that is busy", "A run that was stopped"])
def test_a_dataset_of_another_run(runbook, bank, heading: str) -> None:
    """While the lease of a run lasts, another one is told that it is busy; after that it does the work."""
    subject = f"{bank.institution}#{bank.provider}"
    until = from_datetime(datetime.now(UTC) + timedelta(minutes=25))
    bank.edit("DATASET", subject, lease={"run": "another", "until": until})
    entry = runbook("A dataset that is busy") if heading.endswith("busy") else runbook("A run that was stopped")
    assert bank.night(status=1) == "busy"
    entry.see("at work", "another")
    bank.edit("DATASET", subject, lease={"run": "another", "until": LONG_AGO})
    entry.act()


def test_an_export_that_failed_as_a_whole(runbook, bank) -> None:
    """The function's log says why; the export is started again."""
    bank.not_delivered()
    bank.fails("QuarterlyExportStateMachineArn", {"quarter": "none"})
    entry = runbook("QuarterlyExportFailed")
    entry.see("a quarter is written like", "not delivered")
    assert "delivered" in entry.act()


def test_packages_that_are_outstanding(runbook, bank) -> None:
    """No export was started: one is started. In a quarter's first days nothing is late yet."""
    bank.not_delivered()
    bank.edit("RECEIVER", bank.institution, since={})
    entry = runbook("PackagesOutstanding")
    entry.see("not delivered")
    entry.act()
    assert "PackagesOutstanding" not in status(runbook)


def test_a_list_that_is_missing(runbook, bank, tmp_path) -> None:
    """The alarm's entry and the state's; the list is checked offline, and then delivered."""
    bank.not_delivered()
    there = bank.sftp.folder / f"{bank.institution}.txt"
    listed = there.read_text()
    there.unlink()
    try:
        assert bank.export(status=1)["error"] == "SSN_LIST_NOT_FOUND"
    finally:
        there.write_text(listed)
    assert "SSN_LIST_NOT_FOUND" in status(runbook)
    runbook("PackagesNotDelivered").see(bank.institution)
    runbook("What an export can say of a delivery").see(bank.institution)
    copy = tmp_path / there.name
    copy.write_text(listed)
    entry = runbook("A delivery whose list is refused", FILE=str(copy))
    entry.see("Numbers in package: 20")
    entry.act()


def test_a_server_that_refuses_us(runbook, bank) -> None:
    """Another host key than the agreed one: nothing is sent, the check says it, and the right key ends it."""
    bank.not_delivered()
    sftp = bank.edit("RECEIVER", bank.institution)["sftp"]
    wrong = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    bank.edit("RECEIVER", bank.institution, sftp={**sftp, "hostKeys": [wrong]})
    assert bank.export(status=1)["error"] == "HOST_KEY"
    entry = runbook("A delivery that the server refuses")
    entry.see("host key")
    bank.edit("RECEIVER", bank.institution, sftp=sftp)
    entry.act()


def test_a_delivery_that_failed(runbook, bank) -> None:
    """Its secret is gone: a fault of ours, which the check and the logs show."""
    bank.not_delivered()
    sftp = bank.edit("RECEIVER", bank.institution)["sftp"]
    bank.edit("RECEIVER", bank.institution, sftp={**sftp, "secret": f"{sftp['secret']}-gone"})
    assert bank.export(status=1)["status"] == "failed"
    entry = runbook("A delivery that failed")
    entry.see("a secret does not exist")
    bank.edit("RECEIVER", bank.institution, sftp=sftp)
    entry.act()


def test_a_delivery_that_another_run_took_over_or_that_is_uncertain(runbook, bank) -> None:
    """Exporting again finds out, delivers if need be, and with --again in any case."""
    bank.not_delivered()
    taken = runbook("A delivery that another run took over")
    taken.see("not delivered")
    taken.act()
    uncertain = runbook("A delivery that is uncertain")
    uncertain.see("delivered")
    assert "already-delivered" in uncertain.act()
    assert "already-delivered" not in uncertain.act(1)


def test_pushes_that_fail(runbook, bank) -> None:
    """A fault of ours is found in the log, with its place."""
    name = bank.edit("INSTITUTION", bank.institution, name=None)["name"]
    try:
        (message,) = bank.population.pushes(bank.institution, bank.provider, datetime.now(UTC), count=1)
        assert bank.parties.push(message, organisation=bank.institution).status_code == 500
    finally:
        bank.edit("INSTITUTION", bank.institution, name=name)
    entry = runbook("PushesFail")
    entry.see("UNEXPECTED_ERROR", "KeyError")


def test_pushes_that_are_refused(runbook, bank) -> None:
    """The log says who was refused and why, the list who is registered."""
    (message,) = bank.population.pushes(bank.institution, bank.provider, datetime.now(UTC), count=1)
    assert bank.parties.push(message, organisation=OURS).status_code == 403
    entry = runbook("PushesRefused")
    entry.see("NotEntitledError", f"NTRNO-{OURS}")
    assert bank.provider in entry.act()


def test_lookups_that_fail_or_lack_an_institution(runbook, bank) -> None:
    """Whoever is not asked is shown with since when; its file can stop the asking."""
    runbook("LookupsFail").see("search_debt")
    runbook("FunctionsThrottled").see("search_debt", bank.institution)
    now = datetime.now(UTC)
    values = {"since": from_datetime(now), "until": from_datetime(now + timedelta(minutes=5))}
    bank.edit("BREAKER", f"{bank.institution}#{bank.provider}", failures=5, pauses=1, **values)
    file = bank.parties.directory / f"institution-{bank.institution}.yaml"
    described = yaml.safe_load(file.read_text())
    stored = file.with_name("stored.yaml")
    stored.write_text(yaml.safe_dump({**described, "lookup": "stored"}))
    entry = runbook("An institution that is not asked", FILE=str(stored))
    entry.see("not asked since", "5 failures")
    assert "changed" in entry.act()
    key = {"pk": "BREAKER", "sk": f"{bank.institution}#{bank.provider}"}
    bank.parties.stack.client("dynamodb").delete_item(TableName=bank.table, Key=to_item(key))


def test_what_is_about_to_expire(runbook, bank) -> None:
    """It is named with its end; a new certificate and a new file end it."""
    login = f"receiver {bank.institution}: our login"
    for subject in ("our client certificate", login):
        bank.partners.put_credential(Credential(subject, LONG_AGO, LONG_AGO))
    file = bank.parties.directory / f"receiver-{bank.institution}.yaml"
    entry = runbook("CredentialsExpiring", FILE=str(file))
    entry.see("our client certificate", login, "has ended on 2023-12-31")
    entry.act()
    entry.act(1)
    assert "CredentialsExpiring" not in status(runbook)


def test_revocation_lists_that_are_old(runbook, bank, tmp_path) -> None:
    """A list that was not read for long: fetched again, or from a new address."""
    authority = Authority.create("Runbook")
    (tmp_path / "ca.pem").write_text(authority.certificate_pem)
    with RevocationServer(authority, tmp_path) as server:
        file = tmp_path / "revocation.yaml"
        file.write_text(yaml.safe_dump({"name": "Runbook", "issuerFile": "ca.pem", "url": server.url}))
        issuer = bank.parties.gjeldsbro("revocation", "put", str(file))["issuer"]
        bank.edit("REVOCATION", issuer, readAt=LONG_AGO, problem="HTTP 404")
        assert "RevocationListsOld" in status(runbook)
        entry = runbook("RevocationListsOld", FILE=str(file))
        entry.see("Runbook", "HTTP 404")
        entry.act()
        entry.act(1)
        assert "RevocationListsOld" not in status(runbook)
        missing = runbook("RevocationRefreshMissing")
        missing.see("REVOCATIONS_REFRESHED")
        missing.act()
        bank.parties.gjeldsbro("revocation", "remove", issuer)


def test_a_watch_that_does_not_look(runbook, bank) -> None:
    """Its log has a line for each time that it looked."""
    bank.parties.stack.client("lambda").invoke(
        FunctionName=bank.parties.stack.outputs["WatchOperationsFunctionName"], Payload=b"{}"
    )
    runbook("WatchMissing").see("WATCHED")


def test_what_was_not_handed_over(runbook, bank) -> None:
    """It is shown with its error, handed over again, or deleted."""
    stack = bank.parties.stack
    queues, url = stack.client("sqs"), stack.outputs["DeadLettersUrl"]
    function = stack.client("lambda").get_function(FunctionName=stack.outputs["WatchOperationsFunctionName"])
    letter = {
        "requestContext": {"functionArn": function["Configuration"]["FunctionArn"]},
        "requestPayload": {},
        "responsePayload": {"errorType": "StoreUnavailableError", "errorMessage": "Query:ThrottlingException"},
    }
    entry = runbook("DeadLettersWaiting")
    for number in range(2):
        queues.send_message(QueueUrl=url, MessageBody=json.dumps(letter))
        entry.see("StoreUnavailableError")
        entry.act(number)
    runbook("NoticesNotTaken").see()


def test_a_message_that_was_not_sent(runbook, bank) -> None:
    """The reports of the last runs say what it would have said."""
    bank.night()
    bank.export()
    runbook("NotificationsFailed").see("report_night", "report_export")
