"""The operator's hand-overs, word for word as docs/operating.md has them, looking at the register after every write."""

import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from tests.cloudformation import ROOT
from tests.integration.machines import Context, Machine, handler_of
from tests.integration.raw_server import authority
from tests.register_reader import Loans, everything_shown
from tests.unit.night_world import customer_json, page_json, people

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.institution_client import InstitutionClient, Limits
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.errors import NotEntitledError
from gjeldsbro.services.push import PushService, read_message
from gjeldsbro_local.sftp_server import SftpServer
from gjeldsbro_operator.stack import Stack
from gjeldsbro_simulator import ServedDataset, Simulator, Tls

A, B = "920013015", "985815534"
OLD, NEW, OF_B = "9908:920013015", "9908:983544622", "9908:985815534"
SERVED = ((A, OLD), (A, NEW), (B, OF_B))


def documented(heading: str) -> list[str]:
    """The command lines that the runbook gives under a heading, in their order."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    section = re.split(r"^#{2,3} ", text.partition(f"\n### {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL) for line in block.splitlines()]
    assert lines, heading
    return lines


class Told:
    """What each provider would deliver now: (institution, provider) to customers with accounts and balances."""

    def __init__(self, says: dict[tuple[str, str], Loans]) -> None:
        self._says = says
        self._at = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()

    @property
    def datasets(self) -> tuple[tuple[str, str], ...]:
        """All that there are."""
        return SERVED

    def count(self, institution: str, provider: str) -> int:
        """Customers that it has."""
        return len(self._customers(institution, provider))

    def customers(self, institution: str, provider: str, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """Each with its loans."""
        for person, loans in list(self._customers(institution, provider).items())[start:stop]:
            customer = customer_json(person, 1, timestamp=self._at, institution=institution)
            (loan,) = customer["loans"]
            customer["loans"] = [{**loan, "accountID": account, "balance": str(loans[account])} for account in loans]
            yield customer

    def customer(self, institution: str, provider: str, customer_id: str) -> None:
        """Nobody is looked up live here."""

    def _customers(self, institution: str, provider: str) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for (person, account), balance in self._says.get((institution, provider), {}).items():
            found.setdefault(person, {})[account] = balance
        return found


class World:
    """A stack in moto whose operator works with files and commands; ``seen`` is the register after every write."""

    def __init__(self, command: Any, aws: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._command = command
        self.partners = Partners(aws["PARTNER_TABLE"], aws_clients.dynamodb())
        self.hash_keys = Secrets(aws_clients.secretsmanager()).hash_keys("hash-key")
        self.register = Register(aws["REGISTER_TABLE"], aws_clients.dynamodb(), self.hash_keys)
        self.folder = folder
        self.says: dict[tuple[str, str], Loans] = {}
        self.watched: tuple[str, ...] = ()
        self.seen: list[dict[str, Loans]] = []
        self.looks = 0
        self.printed: list[str] = []
        machine = Machine("nightly_fetch", monkeypatch)
        client = boto3.client("stepfunctions")
        definition = client.describe_state_machine(stateMachineArn=machine.arn)["definition"]
        machines = {m["name"]: m["stateMachineArn"] for m in client.list_state_machines()["stateMachines"]}
        client.update_state_machine(stateMachineArn=machines["NightlyFetch"], definition=definition)
        for event in ("BatchWriteItem", "UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems"):
            aws_clients.dynamodb().meta.events.register(f"after-call.dynamodb.{event}", self._look)
        monkeypatch.setenv("GJELDSBRO_STACK", "gjeldsbro-test")
        handlers = {
            "ShowCustomerFunctionName": handler_of("show_customer"),
            "CheckReceiverFunctionName": handler_of("check_receiver"),
        }
        monkeypatch.setattr(Stack, "invoke", lambda _, output, payload: handlers[output](payload, Context()))

    def _look(self, **_: Any) -> None:
        if self.watched:
            self.looks += 1
            # In a thread of its own: the function that has just written has no right to read this.
            looking = Thread(target=lambda: self.seen.append(self.shown()))
            looking.start()
            looking.join()

    def shown(self) -> dict[str, Loans]:
        """What a reader sees of those who are watched, per institution."""
        return everything_shown(self.register, self.partners, self.watched)

    def run(self, line: str) -> int:
        """Run a command line of the documentation; its exit status. Others are run as they are."""
        program, *arguments = shlex.split(line)
        if program != "gjeldsbro":
            return subprocess.run([program, *arguments], cwd=self.folder, check=False).returncode
        status: int
        status, *self.printed = self._command(*arguments, stack=False)
        return status

    def show_customer(self, person: str) -> dict[str, list[tuple[str, str]]]:
        """What ``gjeldsbro show-customer`` shows: per institution (account, balance)."""
        status, value, err = self._command("show-customer", person, "--reason", "a check", "--json")
        assert status == 0, err
        return {
            one["financialInstitutionID"]: [(loan["accountID"], str(loan["balance"])) for loan in one["loans"]]
            for one in value["institutions"]
            if one["loans"]
        }


@pytest.fixture
def world(
    gjeldsbro: Any, aws: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_stream: Any
) -> World:
    """An empty stack, whose clients do not pause before they ask again."""
    defaults = InstitutionClient.__init__.__kwdefaults__
    monkeypatch.setattr(InstitutionClient.__init__, "__kwdefaults__", {**defaults, "limits": Limits(pauses=())})
    return World(gjeldsbro, aws, tmp_path, monkeypatch)


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[Simulator]:
    """One server with TLS for all providers."""
    theirs = authority("institution")
    pair = theirs.issue()
    for name, text in (("ca.pem", theirs.pem), ("server.crt", pair.certificate), ("server.key", pair.key)):
        (tmp_path / name).write_text(text)
    served = [ServedDataset(institution=institution, provider=provider) for institution, provider in SERVED]
    tls = Tls(tmp_path / "server.crt", tmp_path / "server.key")
    with Simulator(Told(world.says), served, tls=tls) as running:
        yield running


@pytest.fixture
def onboard(world: World, server: Simulator) -> Callable[..., None]:
    """Writes an institution's file with one provider."""

    def write(institution: str, provider: str) -> None:
        (world.folder / f"{institution}.yaml").write_text(
            f'financialInstitutionID: "{institution}"\nname: Bank {institution}\nlookup: stored\nproviders:\n'
            f'  - {{providerID: "{provider}", url: "{server.provider_url(provider)}", caFile: ca.pem}}\n',
        )

    return write


def loans(persons: tuple[str, ...], balance: int, account: str = "4001") -> Loans:
    """One loan each."""
    return {(person, account): balance + number for number, person in enumerate(persons)}


def put_and_fetch(world: World, server: Simulator, *institutions: str) -> None:
    """The first day: their files are put, and their datasets fetched."""
    server.serve(Told(world.says))
    for institution in institutions:
        assert world.run(f"gjeldsbro institution put {institution}.yaml") == 0
        assert world.run(f"gjeldsbro nightly run --institution {institution} --wait") == 0


def never_missing(world: World, *institutions: str) -> None:
    """In all that was seen, each who is watched owed something at one of the institutions."""
    assert len(world.seen) == world.looks > 5
    for shown in world.seen:
        owing = {person for institution in institutions for person, _ in shown.get(institution, {})}
        assert owing == set(world.watched)


def push(world: World, provider: str, person: str, balance: int) -> None:
    """A provider of A reports a change of a loan."""
    body = page_json([customer_json(person, balance, timestamp=datetime.now(UTC).isoformat())], provider)
    message = read_message(body, accepts="synthetic", now=datetime.now(UTC))
    service = PushService(world.partners, world.register, world.hash_keys)
    service.receive(message, f"NTRNO-{provider.removeprefix('9908:')}", datetime.now(UTC))


@pytest.mark.parametrize("account", ["4001", "other"])
def test_a_new_provider_for_an_institution(
    world: World, server: Simulator, onboard: Callable[..., None], account: str
) -> None:
    """The old one's data stands in until the new one's is there, once under the same account, and is gone then."""
    staying, leaving, coming = people(30)[:28], people(30)[28], people(30)[29]
    world.says |= {(A, OLD): loans((*staying, leaving), 1000), (A, NEW): loans((*staying, coming), 2000, account)}
    onboard(A, OLD)
    put_and_fetch(world, server, A)
    world.watched = seen = staying[:5]
    before = world.shown()
    assert before == {A: loans(seen, 1000)}

    put, fetch = documented("A new provider for an institution")
    onboard(A, NEW)
    server.misbehave(A, "status:503", NEW)
    assert world.run(put) == 0
    assert world.run(fetch) == 1
    assert world.shown() == before
    with pytest.raises(NotEntitledError):
        push(world, OLD, staying[0], 5)
    server.behave()
    push(world, NEW, staying[0], 1500)
    assert world.show_customer(staying[0]) == {A: [("4001", "1500")]}

    assert world.run(fetch) == 0
    never_missing(world, A)
    pushed = {(staying[0], "4001"): 1500}  # newer than the dataset
    new = loans(seen, 2000, account) | pushed
    for shown in world.seen:
        for place, balance in shown[A].items():
            assert balance in {before[A].get(place), pushed.get(place), new.get(place)}
        assert account == "other" or len(shown[A]) == len(seen)
    world.watched = (*staying, leaving, coming)
    assert world.shown() == {A: loans((*staying, coming), 2000, account) | pushed}
    assert world.show_customer(staying[1]) == {A: [(account, "2001")]}
    found = world.partners.institution(A)
    assert found is not None
    assert [provider.provider for provider in found.providers] == [NEW]


def test_two_institutions_become_one(world: World, server: Simulator, onboard: Callable[..., None]) -> None:
    """Who owed the one that ends owes the other then, at every moment one of them; a failed fetch changes nothing."""
    own, theirs = people(60)[:30], people(60)[30:]
    world.says |= {(A, OLD): loans(own, 1000), (B, OF_B): loans(theirs, 2000, "77")}
    onboard(A, OLD)
    onboard(B, OF_B)
    put_and_fetch(world, server, A, B)
    world.watched = (theirs[0], theirs[1], theirs[-1])
    before = world.shown()
    assert set(before) == {B}

    fetch, remove = documented("Two institutions become one")
    world.says[A, OLD] = {**loans(own, 1000), **loans(theirs, 2000, "77")}
    server.serve(Told(world.says))
    server.misbehave(A, "status:503", OLD)
    assert world.run(fetch) == 1
    assert world.shown() == before
    server.behave()
    assert world.run(fetch) == 0
    assert world.shown() == {A: before[B], B: before[B]}
    assert world.run(remove) == 0

    never_missing(world, A, B)
    world.watched = (*own, *theirs)
    assert world.shown() == {A: world.says[A, OLD]}
    assert world.show_customer(theirs[0]) == {A: [("77", "2000")]}
    assert world.partners.institution(B) is None


def test_a_portfolio_moves_to_another_institution(
    world: World, server: Simulator, onboard: Callable[..., None]
) -> None:
    """Half of the customers leave: that is held, and nobody is missing meanwhile; its release ends it."""
    own, staying, moving = people(130)[:10], people(130)[10:70], people(130)[70:]
    world.says |= {(A, OLD): loans(own, 1000), (B, OF_B): loans((*staying, *moving), 2000, "77")}
    onboard(A, OLD)
    onboard(B, OF_B)
    put_and_fetch(world, server, A, B)
    world.watched = (*moving[:3], moving[-1])

    take, leave, release = documented("A portfolio moves to another institution")
    world.says[A, OLD] = {**loans(own, 1000), **loans(moving, 2060, "77")}
    world.says[B, OF_B] = loans(staying, 2000, "77")
    server.serve(Told(world.says))
    assert world.run(take) == 0
    assert world.run(leave) == 1
    assert [dataset.held for dataset in world.partners.datasets(B)] == [True]
    assert set(world.shown()) == {A, B}
    assert world.run(release) == 0

    never_missing(world, A, B)
    world.watched = (*own, *staying, *moving)
    assert world.shown() == {A: world.says[A, OLD], B: world.says[B, OF_B]}
    assert world.show_customer(moving[0]) == {A: [("77", "2060")]}


def test_an_institution_ends(world: World, server: Simulator, onboard: Callable[..., None]) -> None:
    """Its data goes at once, other institutions' stays, and it may report nothing any more."""
    both = people(3)
    world.says |= {(A, OLD): loans(both, 1000), (B, OF_B): loans(both, 2000)}
    onboard(A, OLD)
    onboard(B, OF_B)
    put_and_fetch(world, server, A, B)
    world.watched = both
    assert set(world.show_customer(both[0])) == {A, B}

    (remove,) = documented("An institution ends")
    push_to_b = page_json([customer_json(both[0], 5, timestamp=datetime.now(UTC).isoformat(), institution=B)], OF_B)
    server.misbehave(B, "status:503", OF_B)  # it need not answer
    assert world.run(remove) == 0

    assert all(shown[A] == loans(both, 1000) for shown in world.seen)
    assert world.shown() == {A: loans(both, 1000)}
    assert world.show_customer(both[0]) == {A: [("4001", "1000")]}
    message = read_message(push_to_b, accepts="synthetic", now=datetime.now(UTC))
    with pytest.raises(NotEntitledError):
        PushService(world.partners, world.register, world.hash_keys).receive(message, f"NTRNO-{B}", datetime.now(UTC))


# Receivers


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SftpServer]:
    """A receiver's real server."""
    server = SftpServer(tmp_path / "sftp")
    server.user = pwd.getpwuid(os.geteuid()).pw_name  # the operator's environment names another one
    with server as running:
        yield running


def receiver_file(world: World, sshd: SftpServer, *host_keys: str, key: str) -> None:
    """The receiver's file, with these host keys and this private key."""
    pinned = ", ".join(f'"{host_key}"' for host_key in host_keys)
    (world.folder / "receiver.yaml").write_text(
        f'receiver: "{A}"\nname: Mottakerbanken AS\nonBehalfOf: ["{A}"]\n'
        f"sftp:\n  url: {sshd.url}\n  hostKeys: [{pinned}]\n  privateKeyFile: {key}\n"
    )


def test_a_receivers_server_gets_a_new_host_key(world: World, sshd: SftpServer) -> None:
    """With both keys in the file it is known before and after; with the old one alone it is not."""
    put, check, check_after, put_new, check_new = documented("A receiver's server gets a new host key")
    key, old = str(sshd.private_key_file), sshd.host_key
    receiver_file(world, sshd, old, key=key)
    assert [world.run(put), world.run(check)] == [0, 0]
    other = sshd.directory / "other_key"
    sshd._make_key(other)
    new = " ".join(other.with_suffix(".pub").read_text().split()[:2])

    receiver_file(world, sshd, old, new, key=key)
    assert [world.run(put), world.run(check)] == [0, 0]
    sshd.stop()
    for suffix in ("", ".pub"):
        shutil.copyfile(f"{other}{suffix}", f"{sshd.directory / 'host_key'}{suffix}")
    sshd.start()
    assert world.run(check_after) == 0
    receiver_file(world, sshd, new, key=key)
    assert [world.run(put_new), world.run(check_new)] == [0, 0]
    receiver_file(world, sshd, old, key=key)
    assert [world.run(put), world.run(check)] == [0, 1]
    assert "host key" in world.printed[0]


def test_a_new_key_for_our_login_at_a_receiver(world: World, sshd: SftpServer) -> None:
    """It is used when it is put; before the receiver knows it the check says so, and the old one can be put back."""
    make, put, check = documented("A new key for our login at a receiver")
    receiver_file(world, sshd, sshd.host_key, key=str(sshd.private_key_file))
    assert [world.run(put), world.run(check)] == [0, 0]
    assert world.run(make) == 0

    receiver_file(world, sshd, sshd.host_key, key="nogi_2027")
    assert [world.run(put), world.run(check)] == [0, 1]
    assert "the server refused the login" in world.printed[0]
    receiver_file(world, sshd, sshd.host_key, key=str(sshd.private_key_file))
    assert [world.run(put), world.run(check)] == [0, 0]

    known = sshd.directory / "authorized_keys"
    public = (world.folder / "nogi_2027.pub").read_text()
    known.write_text(known.read_text() + public)
    receiver_file(world, sshd, sshd.host_key, key="nogi_2027")
    assert [world.run(put), world.run(check)] == [0, 0]
    known.write_text(public)
    assert world.run(check) == 0
