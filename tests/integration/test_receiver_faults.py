"""What can be wrong with receivers and the way to them: each fault in a whole export, beside a good receiver.

However a run with a fault ends: the good receiver has its package, the other one has either its new package, complete,
or last quarter's, and nothing unfinished; the outcome says why in words; the fault mended, the next run makes
what is missing, and nothing twice. Packages are compared with what the debts and the lists say.
"""

import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.integration.faulty_wire import Wire
from tests.integration.machines import Context, Machine, handler_of
from tests.integration.password_server import PasswordServer

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters import receiver_client
from gjeldsbro.adapters.register import DatasetItems
from gjeldsbro.domain.loans import ChargeCard, encode_loans
from gjeldsbro.domain.quarter import month_and_year
from gjeldsbro.services.export import deliver, read_lists
from gjeldsbro.services.ports import Institution, Provider, Receiver
from gjeldsbro_local.sftp_server import SftpServer

GOOD, FAULTY, OTHER, CREDITOR = "920013015", "985815534", "971171324", "974760673"
DEBTOR, TWICE, FREE = "17912099997", "29822099635", "12829499914"
STAMP = "2026-09-30T03:00:00.0000000Z"
DEBTS = {DEBTOR: list(range(1, 5001)), TWICE: [7, 9]}
"""What each person owes, loan by loan: enough for a package of some hundred thousand bytes."""

LIST, GOOD_LIST = f"{FREE},{DEBTOR},abc,{DEBTOR}\n", f"{TWICE},{FREE}"
BEFORE = b"last quarter's"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Iterator[SftpServer]:
    """The server of the receiver with which all is well."""
    with SftpServer(tmp_path_factory.mktemp("good")) as running:
        yield running


@pytest.fixture(scope="module")
def sshd(tmp_path_factory) -> Iterator[SftpServer]:
    """The server of the other one. All is well with it, too: what is wrong is the way to it, or our record of it."""
    with SftpServer(tmp_path_factory.mktemp("faulty")) as running:
        yield running


class Exports:
    """Runs of the export for a good receiver and another one, whose folder is ``folder``."""

    def __init__(self, partners: Any, store: Any, monkeypatch: pytest.MonkeyPatch, good: SftpServer) -> None:
        self.partners, self.store, self._monkeypatch, self._good = partners, store, monkeypatch, good
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.pause: Callable[[], None] = lambda: None
        self.folder = Path()
        self.package_was = b""

    def receive(self, receiver: Receiver, folder: Path, text: str | None = LIST) -> None:
        """Register the other receiver; in its folder are a list, and last quarter's package."""
        self.partners.put_receiver(receiver)
        self.folder = folder
        for file in folder.iterdir():
            file.unlink()
        for on_behalf_of in receiver.on_behalf_of:
            (folder / f"{on_behalf_of}.gzip").write_bytes(BEFORE)
            if text is not None:
                (folder / f"{on_behalf_of}.txt").write_text(text)

    def run(self, run: str, *, missed: int) -> Machine:
        """One run; ``missed`` packages are not delivered. The good receiver's are, at its first try, and only once."""
        machine = Machine("quarterly_export", self._monkeypatch, handlers=self.handlers, pause=self.pause)
        ended = machine.run(run)
        assert (ended["status"], ended["output"]["notDelivered"]) == ("SUCCEEDED", missed)
        assert [key for key in self.store.keys("") if not key.startswith("reports/")] == []
        steps = [
            (step, result)
            for step, event, result in machine.calls
            if event.get("receiver") == GOOD and step in {"read_ssn_lists", "build_slice", "deliver_package"}
        ]
        package = (self._good.folder / f"{GOOD}.gzip").read_bytes()
        if self.package_was:
            assert self.outcome(run, GOOD)["status"] == "already-delivered"
            assert (steps, package) == ([], self.package_was)
        else:
            assert self.outcome(run, GOOD)["status"] == "delivered"
            assert [result for _, result in steps] == [{"complete": True}] * 3
            check_package(package, GOOD, [TWICE, FREE])
        self.package_was = package
        return machine

    def outcome(self, run: str, receiver: str = FAULTY, on_behalf_of: str | None = None) -> dict[str, Any]:
        """What a run says of a delivery."""
        found: dict[str, Any] = self.partners.outcomes(run)[f"{receiver}#{on_behalf_of or receiver}"]
        return found

    def fails(self, status: str, error: str, *words: str) -> Machine:
        """A run in which the other receiver's package is not delivered, and says why; it keeps last quarter's."""
        machine = self.run("export-1", missed=1)
        outcome = self.outcome("export-1")
        assert (outcome["status"], outcome["error"]) == (status, error)
        assert all(word in outcome["reason"] for word in words), outcome["reason"]
        self.check_nothing_new()
        return machine

    def check_says(self, step: str, *words: str) -> None:
        """``gjeldsbro receiver check`` finds the same, at the step where it is."""
        checked = handler_of("check_receiver")({"receiver": FAULTY}, Context())
        assert not checked["works"]
        assert {name for name, found in checked["checks"].items() if found not in {"ok", "not tried"}} == {step}
        assert all(word in checked["checks"][step] for word in words), checked["checks"]
        self.check_nothing_new()

    def check_nothing_new(self) -> None:
        """Last quarter's package is there, and nothing unfinished."""
        assert (self.folder / f"{FAULTY}.gzip").read_bytes() == BEFORE
        self.check_nothing_unfinished()

    def check_nothing_unfinished(self) -> None:
        """Lists, packages and reports, and nothing else."""
        assert not [file.name for file in self.folder.iterdir() if file.suffix not in {".txt", ".gzip"}]

    def delivers(self, run: str = "export-1", *numbers: str) -> Machine:
        """A run that delivers to the other one as well: what its list asks for, or ``numbers``."""
        machine = self.run(run, missed=0)
        assert self.outcome(run)["status"] == "delivered"
        check_package((self.folder / f"{FAULTY}.gzip").read_bytes(), FAULTY, list(numbers) or [FREE, DEBTOR])
        self.check_nothing_unfinished()
        return machine

    def report(self, kind: str) -> list[str]:
        """The report that the other receiver got."""
        month, year = month_and_year(datetime.now(UTC))
        name = f"{FAULTY}-{FAULTY}-{month}-{year}-{kind}-report.txt"
        return (self.folder / name).read_text(encoding="utf-8").splitlines()


def tries_of(machine: Machine, step: str) -> list[dict[str, Any]]:
    """What the calls of a step for the other receiver gave."""
    return [result for name, event, result in machine.calls if name == step and event["receiver"] == FAULTY]


def check_package(data: bytes, on_behalf_of: str, numbers: list[str]) -> None:
    """A package holds these customers, in this order, each with all that it owes."""
    customers = json.loads(gzip.decompress(data))["customers"]
    assert [customer["customerID"] for customer in customers] == numbers
    assert {customer["financialInstitutionID"] for customer in customers} == {on_behalf_of}
    for customer in customers:
        owed = sorted(int(loan["interestBearingBalance"]) for loan in customer["loans"])
        assert owed == DEBTS.get(customer["customerID"], [])


@pytest.fixture
def exports(aws, partners, secrets, store, monkeypatch, good) -> Exports:
    """A register with debts, a good receiver with its list, and retries without their pauses."""
    monkeypatch.setattr(read_lists, "PAUSES", (0, 0, 0, 0))
    for file in good.folder.iterdir():
        file.unlink()
    (good.folder / f"{GOOD}.txt").write_text(GOOD_LIST)
    put_key("good", good.private_key_file.read_text())
    partners.put_receiver(Receiver(GOOD, "Good", (GOOD,), good.url, (good.host_key,), "good"))
    hash_key, provider = secrets.hash_keys("hash-key").at(datetime.now(UTC)), f"9908:{CREDITOR}"
    items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), hash_key.version)
    partners.put_institution(Institution(CREDITOR, "FI", providers=(Provider(provider, "https://fi"),)))
    dataset = partners.take_lease(CREDITOR, provider, "night", datetime.now(UTC), 60)
    partners.update_dataset(dataset, "night", as_of=STAMP, fetch_start=STAMP)
    rows = [
        (
            hash_key.customer_key(number),
            encode_loans(tuple(ChargeCard(f"{owed:011}", STAMP, None, owed, 0, 0) for owed in debts)),
        )
        for number, debts in DEBTS.items()
    ]
    items.write_dataset_items(CREDITOR, provider, "night", rows)
    return Exports(partners, store, monkeypatch, good)


def put_key(name: str, private_key: str) -> None:
    """Store, or change, credentials of a receiver."""
    client = boto3.client("secretsmanager")
    text = json.dumps({"privateKey": private_key})
    try:
        client.create_secret(Name=name, SecretString=text)
    except client.exceptions.ResourceExistsException:
        client.put_secret_value(SecretId=name, SecretString=text)


def of_sshd(server: SftpServer, **changes: Any) -> Receiver:
    """The other receiver, on an OpenSSH server."""
    put_key("faulty", server.private_key_file.read_text())
    return replace(Receiver(FAULTY, "Faulty", (FAULTY,), server.url, (server.host_key,), "faulty"), **changes)


@contextmanager
def password_server(folder: Path, **faults: Any) -> Iterator[Receiver]:
    """The other receiver, on a server in this process."""
    folder.mkdir()
    with PasswordServer(folder, user="nogi", password="correct", **faults) as running:
        boto3.client("secretsmanager").create_secret(Name="password", SecretString=json.dumps({"password": "correct"}))
        yield Receiver(FAULTY, "Faulty", (FAULTY,), running.url, (running.host_key,), "password")


@contextmanager
def wire_to(server: SftpServer) -> Iterator[Wire]:
    """A wire to an OpenSSH server."""
    with Wire(server.port) as wire:
        yield wire


def over(wire: Wire, server: SftpServer, **changes: Any) -> Receiver:
    """The other receiver, at the end of a wire."""
    return of_sshd(server, url=server.url.replace(f":{server.port}/", f":{wire.port}/"), **changes)


def new_key() -> tuple[str, str]:
    """A private key in PEM, and its public part as it stands in authorized_keys and in receiver files."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), public


# The way to the server, and who it is


def test_a_host_that_is_away(exports, sshd):
    """Tried again and again, then reported; when it is back, the next run delivers what is missing."""
    exports.receive(of_sshd(sshd, url=sshd.url.replace(f":{sshd.port}/", ":1/")), sshd.folder)
    machine = exports.fails("failed", "ReceiverUnavailableError", "cannot be reached", "refuses the connection")
    assert len(tries_of(machine, "read_ssn_lists")) == 5
    exports.check_says("connect", "refuses the connection")
    exports.partners.put_receiver(of_sshd(sshd))
    exports.delivers("export-2")


def test_a_host_that_does_not_answer(exports, sshd, monkeypatch):
    """As behind a firewall that drops what we send: given up after a while, and tried again."""
    monkeypatch.setattr(receiver_client, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as waiting:
        port = deaf.getsockname()[1]
        for _ in range(4):  # nobody accepts: when some wait, the next one's request is dropped
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        exports.receive(of_sshd(sshd, url=sshd.url.replace(f":{sshd.port}/", f":{port}/")), sshd.folder)
        exports.fails("failed", "ReceiverUnavailableError", "cannot be reached: no answer in 0.2 seconds")


def test_another_host_key(exports, sshd):
    """A server that is not the one that was agreed on gets nothing, not even a login."""
    with wire_to(sshd) as wire:
        exports.receive(over(wire, sshd, host_keys=(new_key()[1],)), sshd.folder)
        machine = exports.fails("refused", "HOST_KEY", "host key is not one of those that were agreed on")
        assert len(tries_of(machine, "read_ssn_lists")) == 1
        exports.check_says("hostKey", "not one of those that were agreed on")
        exports.partners.put_receiver(over(wire, sshd))
        exports.delivers("export-2")


def test_a_login_that_is_refused(exports, sshd):
    """Not tried again and again: that shuts us out of some servers."""
    receiver = of_sshd(sshd)
    put_key("faulty", new_key()[0])
    exports.receive(receiver, sshd.folder)
    exports.fails("refused", "LOGIN", "the server refused the login")
    exports.check_says("login", "the server refused the login")
    put_key("faulty", sshd.private_key_file.read_text())
    exports.delivers("export-2")


def test_our_key_is_changed_during_a_run(exports, sshd):
    """The old key is refused, the new one read and used: nobody waits for a cache, and nothing fails."""
    receiver = of_sshd(sshd, on_behalf_of=(FAULTY, OTHER))
    exports.receive(receiver, sshd.folder)
    (private, public), authorized = new_key(), sshd.directory / "authorized_keys"
    real, calls = handler_of("deliver_package"), []

    def change_then_deliver(event, context):
        if event["receiver"] == FAULTY:
            calls.append(event["onBehalfOf"])
            if len(calls) == 2:
                authorized.write_text(public + "\n")
                put_key("faulty", private)
        return real(event, context)

    exports.handlers["deliver_package"] = change_then_deliver
    try:
        exports.delivers()
    finally:
        authorized.write_bytes(sshd.private_key_file.with_suffix(".pub").read_bytes())
    assert calls == [FAULTY, OTHER]
    assert exports.outcome("export-1", FAULTY, OTHER)["status"] == "delivered"


# The folder, and what may be done there


def test_a_folder_that_is_missing(exports, sshd):
    """The receiver's to mend, and said so."""
    exports.receive(of_sshd(sshd, url=f"{sshd.url}/none"), sshd.folder)
    exports.fails("refused", "FOLDER", "no such file or folder")
    exports.check_says("folder", "no such file or folder")
    exports.partners.put_receiver(of_sshd(sshd))
    exports.delivers("export-2")


def test_a_folder_where_we_may_not_write(exports, tmp_path):
    """Not even a report can be written: the outcome says so."""
    with SftpServer(tmp_path / "read-only", sftp_options="-R") as server:
        exports.receive(of_sshd(server), server.folder)
        exports.fails("refused", "WRITE", "permission denied")
        exports.check_says("write", "permission denied")
    with SftpServer(tmp_path / "read-only") as server:
        exports.partners.put_receiver(of_sshd(server))
        exports.delivers("export-2")


class FullDisk(SftpServer):
    """A server on which files end at 16 KiB: reports have room, a package has not."""

    def _command(self, program: str, configuration: Path) -> list[str]:
        command = super()._command(program, configuration)
        return ["sh", "-c", "trap '' XFSZ; ulimit -f 32; exec \"$@\"", "sh", *command]


def test_a_disk_that_is_full(exports, tmp_path):
    """What was uploaded of the package is removed again, so that the receiver has that room at least."""
    with FullDisk(tmp_path / "full") as server:
        exports.receive(of_sshd(server), server.folder)
        exports.fails("refused", "WRITE", "its disk or our share of it may be full")
        assert exports.report("progress")
    with SftpServer(tmp_path / "full") as server:
        exports.partners.put_receiver(of_sshd(server))
        exports.delivers("export-2")


def test_a_server_that_does_not_rename(exports, tmp_path):
    """A package would be read half: there is none, and last quarter's stays."""
    with SftpServer(tmp_path / "fixed", sftp_options="-P rename,posix-rename") as server:
        exports.receive(of_sshd(server), server.folder)
        exports.fails("refused", "RENAME", "permission denied")
        exports.check_says("rename", "permission denied")


def test_a_server_that_renames_only_to_names_that_are_free(exports, tmp_path):
    """Last quarter's package is put aside first and removed after; so are reports of an earlier run."""
    with password_server(tmp_path / "plain", renames=True) as receiver:
        exports.receive(receiver, tmp_path / "plain")
        exports.delivers()
        exports.handlers = {}
        again = Machine("quarterly_export", exports._monkeypatch)
        ended = again.run("export-2", {"receiver": FAULTY, "again": True, "reason": "the receiver lost it"})
        assert ended["output"]["notDelivered"] == 0
        check_package((exports.folder / f"{FAULTY}.gzip").read_bytes(), FAULTY, [FREE, DEBTOR])
        exports.check_nothing_unfinished()


def test_a_server_that_hides_what_was_uploaded(exports, tmp_path):
    """With readBack off it gets its package; with readBack on the outcome says that this is what to change."""
    with password_server(tmp_path / "hides", renames=True, hides=True) as receiver:
        exports.receive(receiver, tmp_path / "hides")
        exports.fails("refused", "READ_BACK", "does not show what was uploaded", "`readBack: false`")
        exports.check_says("readBack", "does not show what was uploaded")
        exports.partners.put_receiver(replace(receiver, read_back=False))
        exports.delivers("export-2")


# Connections


def test_a_connection_that_is_cut_during_the_upload(exports, sshd):
    """The next try goes on with what arrived, the copy is compared, and only then it gets its name."""
    with wire_to(sshd) as wire:
        exports.receive(over(wire, sshd), sshd.folder)
        real, sizes = handler_of("deliver_package"), []

        def cut_first(event, context):
            if event["receiver"] == FAULTY and not sizes:
                wire.cut_up = 20_000
                try:
                    return real(event, context)
                finally:
                    sizes.extend(file.stat().st_size for file in sshd.folder.glob("*.part"))
                    assert (sshd.folder / f"{FAULTY}.gzip").read_bytes() == BEFORE
            return real(event, context)

        exports.handlers["deliver_package"] = cut_first
        machine = exports.delivers()
        tries = tries_of(machine, "deliver_package")
        assert tries[0]["errorType"] == "ReceiverUnavailableError"
        assert tries[1:] == [{"complete": True}]
        assert len(sizes) == 1


def test_a_connection_that_is_cut_whenever_we_upload(exports, sshd):
    """Given up after some tries; what arrived is not under the real name, and goes with the next delivery."""
    with wire_to(sshd) as wire:
        exports.receive(over(wire, sshd), sshd.folder)
        real = handler_of("deliver_package")

        def cut(event, context):
            if event["receiver"] == FAULTY:
                wire.cut_up = 10_000
            return real(event, context)

        exports.handlers["deliver_package"] = cut
        exports.run("export-1", missed=1)
        assert exports.outcome("export-1")["error"] == "ReceiverUnavailableError"
        assert "connection" in exports.outcome("export-1")["reason"]
        assert (sshd.folder / f"{FAULTY}.gzip").read_bytes() == BEFORE
        exports.handlers, wire.cut_up = {}, None
        exports.delivers("export-2")


def test_a_connection_that_is_cut_during_the_download(exports, sshd):
    """The list is read on from there, and nothing of it is lost or comes twice."""
    lines = "".join(f"{FREE[:-5]}{number:05}x\n" for number in range(10_000))
    with wire_to(sshd) as wire:
        exports.receive(over(wire, sshd), sshd.folder, f"{FREE}\n{lines}{DEBTOR}")
        wire.cut_down = 80_000
        machine = exports.delivers()
        tries = tries_of(machine, "read_ssn_lists")
        assert [result.get("errorType") for result in tries] == ["ReceiverUnavailableError", None]
        assert exports.report("progress")[3:6] == [
            "Numbers in list: 10002",
            "Numbers in package: 2",
            "Invalid numbers: 10000",
        ]


@pytest.mark.parametrize("lingers", [False, True], ids=["at once", "lingers"])
def test_a_server_that_allows_one_connection(exports, sshd, lingers):
    """One is enough for everything; a server that still counts the last one refuses us, and is tried again."""
    with wire_to(sshd) as wire:
        exports.pause = wire.wait_until_free
        wire.alone, wire.lingers = True, lingers
        exports.receive(over(wire, sshd, on_behalf_of=(FAULTY, OTHER)), sshd.folder)
        exports.delivers()
        assert exports.outcome("export-1", FAULTY, OTHER)["status"] == "delivered"
        assert wire.connections == 3
        assert wire.refused >= 2 or not lingers


class SlowContext(Context):
    """A function of ``seconds`` against a server that moves ``pace`` bytes a second: each byte on the wire takes time.

    No clock runs: the time that is left is told from what the wire has carried.
    """

    def __init__(self, wire: Wire, *, seconds: float, pace: float) -> None:
        super().__init__()
        self._wire, self._seconds, self._pace = wire, seconds, pace
        self._before = wire.up + wire.down

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        carried = self._wire.up + self._wire.down - self._before
        return int((self._seconds - carried / self._pace) * 1000)


def test_a_server_that_is_very_slow(exports, sshd, monkeypatch):
    """Reading and delivering take several functions' whole time each, go on at the byte, and end in time.

    Everything is smaller in the same measure: a function has 900 seconds and the server moves 100 bytes in each, the
    pieces between two looks at the time are 64 times smaller than they are.
    """
    for module, name in (
        (receiver_client, "_PIECE"),
        (receiver_client, "_MOST_UNCONFIRMED"),
        (deliver, "_LOOK_AT_TIME"),
        (deliver, "_REWIND"),
        (read_lists, "PIECE_SIZE"),
        (read_lists, "LOOK_AT_TIME"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) // 64)
    monkeypatch.setattr(receiver_client, "_READ_AHEAD", 4096)  # what is asked ahead comes in one moment here
    left: dict[str, list[int]] = {"read_ssn_lists": [], "deliver_package": []}
    with wire_to(sshd) as wire:

        def slow(step: str) -> Callable[..., Any]:
            real = handler_of(step)

            def call(event: dict[str, Any], context: Any) -> Any:
                if event["receiver"] != FAULTY:
                    return real(event, context)
                context = SlowContext(wire, seconds=900, pace=100)
                try:
                    return real(event, context)
                finally:
                    left[step].append(context.get_remaining_time_in_millis())

            return call

        monkeypatch.setattr(receiver_client, "monotonic", lambda: (wire.up + wire.down) / 100)
        exports.handlers = {step: slow(step) for step in left}
        lines = "".join(f"{FREE[:-5]}{number:05}x\n" for number in range(10_000))
        exports.receive(over(wire, sshd), sshd.folder, f"{FREE}\n{lines}{DEBTOR}")
        exports.delivers()
    size = (sshd.folder / f"{FAULTY}.gzip").stat().st_size
    for step, times in left.items():
        assert len(times) > 2, step
        assert min(times) > 0, step
    carried = 3 * len(lines) + 2 * size  # the list is read twice and reported, the package written and read back
    talk = 12_000 * sum(map(len, left.values()))  # logins, questions and answers
    assert carried < wire.up + wire.down < 1.1 * carried + talk


# Lists


@pytest.mark.parametrize("change", ["grows", "same size and time"])
def test_a_list_that_changes_between_two_reads(exports, sshd, monkeypatch, change):
    """The package is about the list as it is in the end, and about no mixture."""
    exports.receive(of_sshd(sshd), sshd.folder, f"{FREE},{DEBTOR}")
    file, real, calls = sshd.folder / f"{FAULTY}.txt", handler_of("read_ssn_lists"), []

    def change_after_first(event, context):
        if event["receiver"] == FAULTY:
            result = real(event, Context(seconds=60))  # no time to spare: one piece of work in each call
            calls.append(result)
            if len(calls) == 1:
                before = file.stat()
                file.write_text(f"{TWICE},{DEBTOR}" if change == "same size and time" else f"{TWICE},{DEBTOR},{FREE}")
                if change == "same size and time":
                    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            return result
        return real(event, context)

    exports.handlers["read_ssn_lists"] = change_after_first
    exports.delivers("export-1", *([TWICE, DEBTOR] if change == "same size and time" else [TWICE, DEBTOR, FREE]))
    assert len(calls) > 2


def test_a_list_that_changes_at_each_read(exports, sshd):
    """Given up after five: the receiver is told, and gets its package when the list stands still."""
    exports.receive(of_sshd(sshd), sshd.folder)
    file, real, calls = sshd.folder / f"{FAULTY}.txt", handler_of("read_ssn_lists"), []

    def change_after_each(event, context):
        if event["receiver"] == FAULTY:
            calls.append(event)
            result = real(event, Context(seconds=60))
            os.utime(file, (len(calls), len(calls)))
            return result
        return real(event, context)

    exports.handlers["read_ssn_lists"] = change_after_each
    exports.fails("refused", "SSN_LIST_UNREADABLE", "the receiver was told")
    assert exports.report("failure")[3:] == [
        "Error: SSN_LIST_UNREADABLE",
        f"{FAULTY}.txt changed each time that it was read",
    ]
    assert len(calls) == 6
    exports.handlers = {}
    exports.delivers("export-2")


def test_a_list_of_invalid_numbers_only(exports, sshd):
    """The receiver is told how many there are; there is no package, which would be about nobody."""
    exports.receive(of_sshd(sshd), sshd.folder, "17912099998,abc\n12345678901,,\n")
    exports.fails("refused", "NO_VALID_NUMBERS", "the receiver was told")
    assert exports.report("failure")[3:] == [
        "Error: NO_VALID_NUMBERS",
        "None of the 3 entries of the list is a valid number",
    ]
    (sshd.folder / f"{FAULTY}.txt").write_text(LIST)
    exports.delivers("export-2")
