"""``make demo``: the main job from nothing, on this machine, checked against what the population says.

Two nights of seven synthetic institutions, pushes over mutual TLS, a quarterly export to a real SFTP server, and a
lookup while an institution is down, all through the doors that users have: the operator command, the gateway, the
receiver's folder. It ends with status 0 only
if everything was right, and leaves nothing running.
"""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import requests
import yaml
from rich.console import Console
from rich.table import Column, Table

from gjeldsbro_local.certificates import Authority
from gjeldsbro_local.demo_lookup import look_up
from gjeldsbro_local.sftp_server import SftpServer
from gjeldsbro_local.stack import DIRECTORY, ROOT, LocalStack
from gjeldsbro_operator.stack import STACK_FILE_VARIABLE
from gjeldsbro_population.expectation import package_content
from gjeldsbro_population.population import Dataset, Population
from gjeldsbro_population.writers import ssn_list
from gjeldsbro_simulator.config import ServedDataset
from gjeldsbro_simulator.server import Simulator, Tls

SEED = 20261122
PEOPLE = 1500
CHANGED_PERCENT = 1
LISTED = 1000
"""How many of the population the first receiver's list names."""

STRANGER = "17912099997"
"""A published synthetic number: listed, valid, and a customer of nobody."""

_COMMAND_SECONDS = 240


class DemoError(Exception):
    """Something was not as it must be."""


@dataclass
class Demo:
    """The parties, what they did, and what was checked."""

    stack: LocalStack
    simulator: Simulator
    sftp: SftpServer
    directory: Path
    first_night: Population
    second_night: Population
    console: Console = field(default_factory=lambda: Console(highlight=False))
    failed: list[str] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    refused: Dataset = ("", "")

    def run(self) -> None:
        """The whole story. Raises DemoError at its end when a check failed."""
        self.onboard()
        self.night("First night", self.first_night, dict.fromkeys(self.first_night.datasets, "loaded"))
        self.second()
        self.push()
        self.export()
        self.reports()
        self.show_customer()
        look_up(self)
        if self.failed:
            raise DemoError(f"{len(self.failed)} checks failed: {'; '.join(self.failed)}")

    # --- the steps ------------------------------------------------------------------------------------------------

    def onboard(self) -> None:
        """Institutions, our client certificate, and a receiver, as an operator does it."""
        self.step("Onboarding")
        ours = self.stack.client_ca.issue_client("983544622", name="Gjeldsbro AS").write(self.directory, "ours")
        self.gjeldsbro("certificate", "put", str(ours.cert_file), str(ours.key_file))
        for institution in self.first_night.institutions:
            providers = [
                {"providerID": provider, "url": self.simulator.provider_url(provider), "caFile": "institutions-ca.pem"}
                for provider in institution.providers
            ]
            self.put("institution", institution.institution, institution.name, providers=providers)
        receiver = {
            "onBehalfOf": self.organisations,
            "sftp": {
                "url": self.sftp.url,
                "hostKeys": [self.sftp.host_key],
                "privateKeyFile": str(self.sftp.private_key_file),
            },
        }
        self.put("receiver", self.organisations[0], "Mottakerbanken AS", **receiver)
        steps = self.gjeldsbro("receiver", "check", self.organisations[0])
        self.check("the receiver's server lets us log in, write and rename", steps is not None)
        self.say(f"{len(self.first_night.institutions)} institutions, {len(self.first_night.datasets)} datasets")

    def night(self, title: str, tonight: Population, expected: dict[Dataset, str]) -> dict[Dataset, dict[str, Any]]:
        """Fetch all datasets and show what became of each."""
        self.step(title)
        self.simulator.serve(tonight)
        before = len(self.simulator.requests)
        all_well = all(status == "loaded" for status in expected.values())
        told = self.gjeldsbro("nightly", "run", "--wait", fails=not all_well)
        outcomes = {(entry["institution"], entry["provider"]): entry for entry in told["datasets"]}
        requests_made = list(self.simulator.requests)[before:]
        table = Table(
            Column("From", no_wrap=True),
            Column("Answers", overflow="fold"),
            Column("Status", no_wrap=True),
            "Customers",
            Column("Why", overflow="fold"),
        )
        for dataset in tonight.datasets:
            outcome = outcomes.get(dataset, {})
            asked = sum(
                1 for request in requests_made if f"/{dataset[1]}/" in request.path and dataset[0] in request.path
            )
            kinds = ("added", "changed", "removed", "unchanged")
            customers = ", ".join(f"{outcome[kind]} {kind}" for kind in kinds if outcome.get(kind))
            manners = f"{self.manners(dataset)}, {asked} page{'s' * (asked != 1)}"
            why = str(outcome.get("reason", ""))
            table.add_row("\n".join(dataset), manners, str(outcome.get("status")), customers, why)
        self.console.print(table)
        statuses = {dataset: outcome["status"] for dataset, outcome in outcomes.items()}
        self.check(
            f"{title.lower()}: each dataset is {'loaded' if all_well else 'loaded or refused'}", statuses == expected
        )
        return outcomes

    def second(self) -> None:
        """A night on which one per cent has changed, and one institution delivers a negative amount."""
        self.refused = self.second_night.datasets[-1]
        self.simulator.misbehave(self.refused[0], "negative-amount", self.refused[1])
        expected = {
            dataset: "loaded" if changes.added or changes.changed or changes.removed else "unchanged"
            for dataset, changes in self.second_night.changes.items()
        } | {self.refused: "refused"}
        outcomes = self.night(f"Second night, {CHANGED_PERCENT} % changed", self.second_night, expected)
        for dataset, changes in self.second_night.changes.items():
            if dataset != self.refused:
                outcome = outcomes[dataset]
                found = tuple(outcome.get(name) for name in ("added", "changed", "removed", "unchanged"))
                wanted = (changes.added, changes.changed, changes.removed, changes.unchanged)
                self.check(f"{dataset[0]} from {dataset[1]} has exactly the population's changes", found == wanted)
        reason = str(outcomes[self.refused].get("reason"))
        self.check("the refusal names place and rule", "/customers/" in reason)

    def push(self) -> None:
        """Accepted and refused pushes through the gateway."""
        self.step("Pushes over mutual TLS")
        institution = self.second_night.institutions[0]
        provider = institution.providers[0]
        good = self.second_night.pushes(institution.institution, provider, datetime.now(UTC), count=6)
        wrong = json.loads(json.dumps(good[0]))
        wrong["customers"][0]["loans"][0]["coBorrower"] = "3"
        table = Table("From", "Message", "Answer")
        owner = provider.partition(":")[2]
        for message in good:
            self.post(table, "the provider", "new, changed or repaid", owner, message, 200)
            self.accepted.append(message)
        self.post(table, "the provider", "the same again", owner, good[0], 200)
        self.post(table, "the provider", "coBorrower 3", owner, wrong, 400)
        self.post(table, "another organisation", "in the provider's name", "983544622", good[0], 403)
        self.post(table, "nobody", "no organisation in the certificate", None, good[0], 401)
        self.console.print(table)

    def export(self) -> None:
        """The quarter's packages: one list is fine, one has faults, one is missing."""
        self.step("Quarterly export")
        receiver, second, missing = self.organisations
        numbers = list(self.second_night.customer_ids[:LISTED])
        lists = {receiver: [*numbers, STRANGER], second: numbers[: LISTED // 10]}
        (self.sftp.folder / f"{receiver}.txt").write_bytes(ssn_list(lists[receiver]))
        faulty = ssn_list(lists[second], invalid=["12345", "abc"], duplicates=lists[second][:3], seed=1)
        (self.sftp.folder / f"{second}.txt").write_bytes(b"\xef\xbb\xbf" + faulty.replace(b",", b",\r\n") + b",\r\n")
        told = self.gjeldsbro("export", "run", "--wait", fails=True)
        statuses = {entry["onBehalfOf"]: entry["status"] for entry in told["deliveries"]}
        self.check(
            "two packages are delivered, the third list is missing",
            statuses == {receiver: "delivered", second: "delivered", missing: "refused"},
        )
        now = datetime.now(ZoneInfo("Europe/Oslo"))
        prefix = f"{receiver}-{{}}-{now.month}-{now.year}-"
        progress = self.read(prefix.format(second) + "progress-report.txt")
        failure = self.read(prefix.format(missing) + "failure-report.txt")
        self.console.print(f"[bold]Progress report[/bold]\n{progress}\n[bold]Failure report[/bold]\n{failure}")
        self.check(
            "the progress report lists the invalid numbers",
            "Invalid numbers: 2\n" in progress and "\nabc\n" in progress,
        )
        repeated = all(number in progress for number in lists[second][:3])
        self.check("the progress report lists the repeated numbers", "Duplicate numbers: 3\n" in progress and repeated)
        self.check("the failure report says what is missing", "Error: SSN_LIST_NOT_FOUND\n" in failure)
        instead = {self.refused: self.first_night}  # what was refused leaves the night before in use
        for organisation, listed in lists.items():
            document = json.loads(gzip.decompress((self.sftp.folder / f"{organisation}.gzip").read_bytes()))
            expected = self.second_night.expected_package(listed, pushed=self.accepted, instead=instead)
            same = package_content(document) == expected
            loans = sum(len(customer["loans"]) for customer in document["customers"])
            self.check(
                f"the package for {organisation} holds what the population says: "
                f"{len(document['customers'])} customers, {loans} loans",
                same,
            )
            creditors = {customer["financialInstitutionID"] for customer in document["customers"]}
            self.check(f"the package for {organisation} names no creditor", creditors == {organisation})
        left = sorted(path.name for path in self.sftp.folder.iterdir() if path.suffix not in {".txt", ".gzip"})
        self.check("no temporary file is left on the receiver's server", not left)

    def reports(self) -> None:
        """The pages of the last night and of the export, where whoever reads this finds them afterwards."""
        self.step("Reports")
        for group in ("nightly", "export"):
            file = self.directory.parent / f"{group}-report.html"
            told = self.gjeldsbro(group, "report", "--output", str(file))
            page = file.read_text(encoding="utf-8")
            self.check(
                f"the {group} report is a page that says: {told['sentence']}",
                "</html>" in page and told["sentence"] in page and not told["good"],
            )
            self.say(f"  {file}")

    def show_customer(self) -> None:
        """One person, as an operator looks them up."""
        self.step("Register")
        instead = {self.refused: self.first_night}
        person = max(
            self.second_night.customer_ids[:200],
            key=lambda number: len(self.second_night.expected_loans(number, instead=instead)),
        )
        expected = self.second_night.expected_loans(person, pushed=self.accepted, instead=instead)
        told = self.gjeldsbro("show-customer", person, "--reason", "demo")
        found = {
            entry["financialInstitutionID"]: len(entry["loans"]) for entry in told["institutions"] if entry["loans"]
        }
        self.check(
            f"the register knows a person's debt at {len(expected)} institutions",
            found == {institution: len(loans) for institution, loans in expected.items()},
        )

    # --- tools ----------------------------------------------------------------------------------------------------

    @property
    def organisations(self) -> list[str]:
        """The Norwegian institutions that the receiver gets packages for."""
        return [institution.institution for institution in self.first_night.institutions[:3]]

    def manners(self, dataset: Dataset) -> str:
        """How an institution answers, in words."""
        served = next(
            served for served in self.simulator.world.datasets() if (served.institution, served.provider) == dataset
        )
        return f"{served.numbers}, {served.compression}"

    def put(self, kind: str, identifier: str, name: str, **values: Any) -> None:
        """Write an institution or receiver file and hand it to the operator command."""
        head = {"financialInstitutionID" if kind == "institution" else kind: identifier, "name": name}
        path = self.directory / f"{kind}-{identifier.replace(':', '-')}.yaml"
        path.write_text(yaml.safe_dump({**head, **values}, allow_unicode=True, sort_keys=False), encoding="utf-8")
        self.gjeldsbro(kind, "put", str(path), "--reason", "demo")

    def gjeldsbro(self, *arguments: str, fails: bool = False) -> Any:
        """Run the operator command; its JSON. Raises DemoError when its exit status is not the expected one."""
        done = subprocess.run(
            [str(ROOT / ".venv" / "bin" / "gjeldsbro"), "--local", "--json", *arguments],
            env={**os.environ, STACK_FILE_VARIABLE: str(self.stack.stack_file)},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != int(fails):
            raise DemoError(
                f"gjeldsbro {' '.join(arguments[:2])} ended with {done.returncode}: {done.stderr}{done.stdout}"
            )
        return json.loads(done.stdout)

    def post(self, table: Table, who: str, what: str, owner: str | None, message: dict[str, Any], wanted: int) -> None:
        """Push a message with a certificate of ``owner`` and check the status."""
        files = self.stack.client_ca.issue_client(owner).write(self.directory, f"client-{owner}")
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"{self.stack.gateway_url}/debt-information/v1/loans",
                json=message,
                cert=(str(files.cert_file), str(files.key_file)),
                verify=str(self.stack.gateway_ca_file),
                timeout=60,
            )
        body = answer.json()
        table.add_row(who, what, f"{answer.status_code} {body.get('errorMessage', '')}")
        self.check(f"a push from {who} ({what}) is answered with {wanted}", answer.status_code == wanted, quiet=True)

    def read(self, name: str) -> str:
        """A file that we wrote to the receiver's folder."""
        path = self.sftp.folder / name
        if not path.exists():
            raise DemoError(f"{name} is not on the receiver's server")
        return path.read_text(encoding="utf-8")

    def step(self, title: str) -> None:
        """Begin a chapter."""
        self.console.rule(f"[bold]{title}", align="left")

    def say(self, text: str) -> None:
        """Tell what happened."""
        self.console.print(text, markup=False)

    def check(self, what: str, holds: bool, *, quiet: bool = False) -> None:
        """Note whether something is as it must be."""
        if not holds:
            self.failed.append(what)
        if not holds or not quiet:
            self.console.print(f"  {'[green]right[/green]' if holds else '[red]WRONG[/red]'}  {what}")


def served_datasets(population: Population) -> list[ServedDataset]:
    """One paged, one deflated as SPEC says, one raw deflated with integers, and so on."""
    manners: list[dict[str, Any]] = [
        {"page_size": 100},
        {"compression": "spec-deflate", "numbers": "padded"},
        {"compression": "spec-raw-deflate", "numbers": "integers"},
        {"compression": "gzip", "page_size": 80},
        {"compression": "deflate"},
    ]
    return [
        ServedDataset(institution=institution, provider=provider, **manners[index % len(manners)])
        for index, (institution, provider) in enumerate(population.datasets)
    ]


def main() -> int:
    """Run the demo; the exit status."""
    # A time limit ends programs with this signal: then, too, nothing may be left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    console = Console(highlight=False)
    directory = DIRECTORY / "demo"
    shutil.rmtree(directory, ignore_errors=True)
    parties = directory / "parties"
    parties.mkdir(parents=True)
    now = datetime.now(UTC)
    first_night = Population(SEED, PEOPLE, 7, extracted_at=now - timedelta(hours=27))
    second_night = first_night.changed(2, CHANGED_PERCENT, extracted_at=now - timedelta(hours=3))
    institutions_ca = Authority.create("Institutions of the demo")
    institutions_ca.write(parties, "institutions-ca")
    server = institutions_ca.issue_server().write(parties, "institutions")
    console.rule("[bold]Starting everything on this machine", align="left")
    stack = LocalStack(directory / "stack", report=lambda step: console.print(f"  {step}", markup=False))
    try:
        with (
            stack,
            SftpServer(directory / "sftp") as sftp,
            Simulator(
                first_night,
                served_datasets(first_night),
                tls=Tls(server.cert_file, server.key_file, stack.client_ca_files.cert_file),
            ) as simulator,
        ):
            Demo(stack, simulator, sftp, parties, first_night, second_night, console).run()
    except (DemoError, RuntimeError) as error:
        console.print(f"[red]The demo failed:[/red] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("[red]The demo was interrupted.[/red]")
        return 130
    console.rule(f"[bold green]Everything was right, in {time.monotonic() - began:.0f} s", align="left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
