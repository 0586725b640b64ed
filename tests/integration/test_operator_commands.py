import datetime as dt
import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from functions.refresh_revocations import refresh_revocations
from rich.console import Console
from tests.cloudformation import ROOT
from tests.integration.raw_server import answer
from tests.integration.revocation_server import RevocationServer
from tests.unit.report_world import export_of, night_reports

from gjeldsbro.adapters.breaker_items import BreakerItems
from gjeldsbro.adapters.crl import issuer_of
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import OperatorError, RevocationListError
from gjeldsbro.services.circuit_breaker import FAILURES, CircuitBreaker
from gjeldsbro_local.certificates import Authority
from gjeldsbro_operator import runs
from gjeldsbro_operator.stack import Stack
from gjeldsbro_population import Population, ssn_list

BANK, OTHER = "920013015", "985815534"
PERSON = Population(1, people=1, institutions=1).customer_ids[0]
NOW = dt.datetime(2026, 11, 22, 6, tzinfo=dt.UTC)


@pytest.fixture
def institution_file(tmp_path):
    """A file that onboards BANK with one provider that is fetched from."""
    file = tmp_path / "institution.yaml"
    file.write_text(
        f'financialInstitutionID: "{BANK}"\nname: Testbanken Ås\nproviders:\n'
        f'  - {{providerID: "9908:{BANK}", url: "https://fi.example.no/debt-information/v1"}}\n',
        encoding="utf-8",
    )
    return file


@pytest.fixture
def receiver_file(tmp_path):
    """A file that onboards BANK as a receiver, with a private key beside it."""
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    host_key = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    file = tmp_path / "receiver.yaml"
    file.write_text(
        f'receiver: "{BANK}"\nname: Mottakerbanken AS\nonBehalfOf: ["{BANK}", "{OTHER}"]\n'
        f'sftp:\n  url: sftp://nogi@127.0.0.1:2222/debt\n  hostKeys: ["{host_key}"]\n  privateKeyFile: key\n'
    )
    return file


@pytest.fixture
def outcomes(monkeypatch, partners):
    """Stands in for the flow: the next run that is started leaves these outcomes. Returns the started requests."""
    started = []

    def prepare(found):
        original = runs.start

        def start(stack, flow, request, now=None):
            execution = original(stack, flow, request, now)
            started.append((flow.name, request))
            for subject, outcome in found.items():
                partners.put_outcome(execution.run, subject, outcome, NOW)
            return execution

        for module in ("nightly", "export"):
            monkeypatch.setattr(f"gjeldsbro_operator.{module}.start", start)
        return started

    return prepare


def trail_of(partners):
    """(action, subject, reason) of the trail, oldest first."""
    return [(e["action"], e["subject"], e.get("reason")) for e in partners.trail(NOW - dt.timedelta(days=99999))]


def test_an_institution_is_onboarded_listed_and_left_alone_when_nothing_changed(gjeldsbro, institution_file, partners):
    """Putting the same file twice changes nothing the second time and leaves one trail record."""
    status, value, _ = gjeldsbro("institution", "put", str(institution_file), "--reason", "new bank", "--json")
    assert (status, value["state"]) == (0, "created")
    assert gjeldsbro("institution", "put", str(institution_file), "--json")[1]["state"] == "unchanged"
    status, value, _ = gjeldsbro("institution", "list", "--json")
    assert [one["name"] for one in value["institutions"]] == ["Testbanken Ås"]
    assert "Testbanken Ås" in gjeldsbro("institution", "list")[1]
    assert trail_of(partners) == [("institution put", f"institution {BANK}", "new bank")]
    assert partners.trail(NOW - dt.timedelta(days=99999))[0]["who"].startswith("arn:aws:")


def test_an_institution_that_is_always_asked_is_listed_as_such(gjeldsbro, institution_file, partners):
    """Mode, an index only, and what its certificates name it as are stored and shown."""
    text = institution_file.read_text().replace("providers:", "lookup: live\nproviders:")
    text = text.replace('/v1"}', '/v1", dataset: ssn, certificates: [PSDSE-FINA-44059]}')
    institution_file.write_text(text)
    gjeldsbro("institution", "put", str(institution_file))
    stored = partners.institution(BANK)
    assert (stored.lookup, stored.providers[0].dataset) == ("live", "ssn")
    assert stored.providers[0].certificates == ("PSDSE-FINA-44059",)
    (shown,) = gjeldsbro("institution", "list", "--json")[1]["institutions"]
    assert shown["lookup"] == "live"
    assert shown["providers"][0]["dataset"] == "ssn"
    assert shown["providers"][0]["certificates"] == ["PSDSE-FINA-44059"]
    assert "customers only" in gjeldsbro("institution", "list")[1]
    assert gjeldsbro("institution", "put", str(institution_file), "--json")[1]["state"] == "unchanged"


def test_an_institution_that_is_not_asked_now_is_listed_as_such(gjeldsbro, institution_file, aws):
    """Since when, after how many failures and from when on it is tried again; a few failures are nobody's concern."""
    gjeldsbro("institution", "put", str(institution_file))
    provider = f"9908:{BANK}"
    items = BreakerItems(aws["PARTNER_TABLE"], boto3.client("dynamodb"))
    breaker = CircuitBreaker(items)
    breaker.failed(BANK, provider, NOW)
    assert "notAsked" not in gjeldsbro("institution", "list", "--json")[1]["institutions"][0]["providers"][0]
    for _ in range(FAILURES):
        breaker.failed(BANK, provider, NOW)
    (state,) = items.states()
    (shown,) = gjeldsbro("institution", "list", "--json")[1]["institutions"]
    expected = {"since": state.since, "triedAgainFrom": state.until, "failures": FAILURES + 1}
    assert shown["providers"][0]["notAsked"] == expected
    assert f"not asked since {NOW:%Y-%m-%d %H:%M:%SZ} (6 failures)" in gjeldsbro("institution", "list")[1]
    breaker.answered(BANK, provider, NOW)
    assert "not asked" not in gjeldsbro("institution", "list")[1]


def test_a_dropped_provider_is_kept_as_ended(gjeldsbro, institution_file, partners):
    """Its data stays visible until its successor's first accepted dataset, so the record must stay too."""
    gjeldsbro("institution", "put", str(institution_file))
    text = institution_file.read_text().replace(f"9908:{BANK}", f"9908:{OTHER}")
    institution_file.write_text(text)
    assert gjeldsbro("institution", "put", str(institution_file), "--json")[1]["state"] == "changed"
    providers = {provider.provider: provider.ended for provider in partners.institution(BANK).providers}
    assert providers == {f"9908:{OTHER}": False, f"9908:{BANK}": True}
    institution_file.write_text(text.replace(f"9908:{OTHER}", f"9908:{BANK}"))
    gjeldsbro("institution", "put", str(institution_file))
    assert not partners.institution(BANK).provider(f"9908:{BANK}").ended


def test_a_provider_does_not_leave_a_dataset_behind(gjeldsbro, institution_file, partners):
    """Who has delivered a dataset cannot go on with pushes alone: nothing would ever replace the dataset."""
    gjeldsbro("institution", "put", str(institution_file))
    dataset = partners.take_lease(BANK, f"9908:{BANK}", "night-1", NOW, 60)
    partners.update_dataset(dataset, "night-1", as_of="2026-11-22T05:00:00.0000000Z", lease=None)
    before = partners.institution(BANK)
    push_only = institution_file.read_text().replace(', url: "https://fi.example.no/debt-information/v1"', "")
    institution_file.write_text(push_only)
    status, _, err = gjeldsbro("institution", "put", str(institution_file))
    assert status == 1
    assert f"9908:{BANK} has delivered datasets" in err
    assert partners.institution(BANK) == before


def test_a_wrong_file_stores_nothing(gjeldsbro, institution_file, partners):
    """Every broken rule is a line of its own on standard error, with file, place and rule."""
    institution_file.write_text(institution_file.read_text().replace("https", "http").replace(BANK, "1", 1))
    status, out, err = gjeldsbro("institution", "put", str(institution_file))
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 2
    assert all(line.startswith(f"gjeldsbro: {institution_file}: ") for line in err.splitlines())
    assert partners.institutions() == []
    assert trail_of(partners) == []


def test_removing_an_institution_ends_it_and_starts_the_withdrawal(gjeldsbro, institution_file, partners, outcomes):
    """No more pushes or fetches from now on; a run for this institution withdraws its data."""
    gjeldsbro("institution", "put", str(institution_file))
    started = outcomes({f"{BANK}#9908:{BANK}": {"status": "loaded", "removed": 7, "withdrawn": True}})
    status, out, _ = gjeldsbro("institution", "remove", BANK, "--wait")
    assert status == 0
    assert "withdrawn" in out
    assert started == [("nightly", {"institution": BANK})]
    assert partners.institution(BANK).ended
    assert gjeldsbro("institution", "remove", OTHER)[0] == 1


def test_a_receivers_credentials_go_to_secrets_manager_only(gjeldsbro, receiver_file, partners, aws):
    """The table holds the secret's name; the functions read the secret as the command wrote it."""
    status, value, _ = gjeldsbro("receiver", "put", str(receiver_file), "--json")
    assert (status, value["state"]) == (0, "created")
    receiver = partners.receiver(BANK)
    assert receiver.secret == f"gjeldsbro-test/receiver/{BANK}"
    secret = Secrets(boto3.client("secretsmanager")).receiver(receiver.secret)
    assert secret.private_key == (receiver_file.parent / "key").read_text().rstrip("\n")
    items = boto3.client("dynamodb").scan(TableName=aws["PARTNER_TABLE"])["Items"]
    assert "PRIVATE KEY" not in str(items)
    described = boto3.client("secretsmanager").describe_secret(SecretId=receiver.secret)
    assert described["KmsKeyId"].startswith("arn:aws:kms:")


def test_a_receiver_can_be_changed_ended_and_onboarded_again(gjeldsbro, receiver_file, partners):
    """A changed password is used from then on; ending deletes the credentials; coming back restores them."""
    gjeldsbro("receiver", "put", str(receiver_file))
    (receiver_file.parent / "password").write_text("s3cret\n")
    receiver_file.write_text(receiver_file.read_text().replace("privateKeyFile: key", "passwordFile: password"))
    assert gjeldsbro("receiver", "put", str(receiver_file), "--json")[1]["state"] == "changed"
    name = partners.receiver(BANK).secret
    assert Secrets(boto3.client("secretsmanager")).receiver(name) == ("s3cret", None, None)
    assert gjeldsbro("receiver", "remove", BANK)[0] == 0
    assert partners.receivers() == []
    assert gjeldsbro("receiver", "remove", BANK)[0] == 1
    assert gjeldsbro("receiver", "put", str(receiver_file))[0] == 0
    assert Secrets(boto3.client("secretsmanager")).receiver(name).password == "s3cret"
    assert "Mottakerbanken AS" in gjeldsbro("receiver", "list")[1]


@pytest.fixture
def lender_file(tmp_path):
    """A file that registers BANK, for itself and OTHER."""
    file = tmp_path / "lender.yaml"
    file.write_text(f'lender: "{BANK}"\nname: Testbanken AS\nonBehalfOf: ["{OTHER}"]\n', encoding="utf-8")
    return file


def test_a_lender_is_registered_listed_changed_and_ended(gjeldsbro, lender_file, partners):
    """What an operator says is what the lookup finds; each change leaves a trail, what changes nothing does not."""
    status, told, _ = gjeldsbro("lender", "put", str(lender_file), "--reason", "agreement 7", "--json")
    assert (status, told["state"], told["purposes"][0]) == (0, "created", "creditApplication")
    assert gjeldsbro("lender", "put", str(lender_file), "--json")[1]["state"] == "unchanged"
    lender_file.write_text(lender_file.read_text() + "purposes: [payoutControl]\n")
    assert gjeldsbro("lender", "put", str(lender_file), "--json")[1]["state"] == "changed"
    (lender,) = partners.lenders()
    assert (lender.lender, lender.on_behalf_of, lender.purposes) == (BANK, (OTHER,), ("payoutControl",))

    assert gjeldsbro("lender", "list", "--json")[1]["lenders"][0]["onBehalfOf"] == [OTHER]
    assert f"NTRNO-{BANK}" in gjeldsbro("lender", "list")[1]
    assert gjeldsbro("lender", "remove", BANK)[0] == 0
    assert partners.lenders() == []
    assert gjeldsbro("lender", "remove", BANK)[0] == 1
    assert [action for action, *_ in trail_of(partners)] == ["lender put", "lender put", "lender remove"]


def test_a_certificate_is_one_lenders(gjeldsbro, lender_file, partners, tmp_path):
    """A lender whose certificate would be another's too is refused: who asked must never be open."""
    gjeldsbro("lender", "put", str(lender_file))
    other = tmp_path / "other.yaml"
    other.write_text(f'lender: "{OTHER}"\nname: Andre\ncertificates: [NTRNO-{BANK}]\n', encoding="utf-8")
    status, _, said = gjeldsbro("lender", "put", str(other))
    assert (status, BANK in said) == (1, True)
    assert [lender.lender for lender in partners.lenders()] == [BANK]


def test_who_looked_a_person_up_is_shown_with_names(gjeldsbro, monkeypatch):
    """The number goes to the function and nowhere else; what came of it is a table, or JSON for programs."""
    asked = []
    record = {
        "at": "2026-11-22T06:00:00.0000000Z",
        "lookupID": "0b9cf2a5-5f5c-4a3e-8a3c-0b1f7c9d2e11",
        "lender": BANK,
        "lenderName": "Testbanken AS",
        "onBehalfOf": OTHER,
        "referenceID": "loan 17",
        "purpose": "payoutControl",
        "role": "coBorrower",
        "creditors": [
            {"institution": BANK, "name": "Testbanken AS", "answered": True, "source": "institution"},
            {"institution": OTHER, "answered": False, "source": "register"},
        ],
    }

    def invoke(self, output, payload):
        asked.append((output, payload))
        return {"lookups": [record]}

    monkeypatch.setattr(Stack, "invoke", invoke)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PERSON}\n"))
    status, told, _ = gjeldsbro("lookups", "-", "--reason", "access request", "--json")
    assert (status, told["lookups"]) == (0, [record])
    ((output, payload),) = asked
    assert output == "ShowLookupsFunctionName"
    assert (payload["customerID"], payload["reason"]) == (PERSON, "access request")
    assert "kari" in payload["operator"]

    _, shown, _ = gjeldsbro("lookups", PERSON, "--reason", "access request")
    for words in ("Testbanken AS", "loan 17", "payoutControl", "coBorrower", "did not answer, from the register"):
        assert words in shown
    with pytest.raises(SystemExit):
        gjeldsbro("lookups", PERSON)
    assert gjeldsbro("lookups", "123", "--reason", "x")[0] == 1


@pytest.fixture
def revocation_file(tmp_path, monkeypatch):
    """A file for an authority's list, the server that publishes it, and the function behind the command."""
    authority = Authority.create("Authority")

    def invoke(self, output, payload):
        assert output == "RefreshRevocationsFunctionName"
        context = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 300_000)
        try:
            with redirect_stdout(io.StringIO()):  # its log and its metric are not the command's
                return refresh_revocations.lambda_handler(json.loads(json.dumps(payload)), context)
        except RevocationListError as exc:
            raise OperatorError(f"RevocationListError: {exc}") from None

    monkeypatch.setattr(Stack, "invoke", invoke)
    (tmp_path / "ca.pem").write_text(authority.certificate_pem)
    with RevocationServer(authority, tmp_path) as server:
        file = tmp_path / "revocation.yaml"
        file.write_text(f"name: Test CA\nissuerFile: ca.pem\nurl: {server.url}\n")
        yield SimpleNamespace(path=str(file), server=server, issuer=issuer_of(authority.certificate_pem))


def test_a_revocation_list_is_configured_shown_refreshed_and_removed(gjeldsbro, revocation_file, partners):
    """Each step says what came of it and leaves a trail; the id may be shortened."""
    assert gjeldsbro("revocation", "refresh")[0] == 1
    status, told, _ = gjeldsbro("revocation", "put", revocation_file.path, "--reason", "new CA", "--json")
    assert (status, told["status"], told["revoked"], told["issuer"]) == (0, "refreshed", 1, revocation_file.issuer)
    (shown,) = gjeldsbro("revocation", "list", "--json")[1]["lists"]
    assert (shown["name"], shown["issuerName"], shown["state"]) == ("Test CA", "CN=Authority", "in force")
    assert shown["usedUntil"][:10] > shown["nextUpdate"][:10] > shown["thisUpdate"][:10]
    listed = gjeldsbro("revocation", "list")[1]
    assert "CN=Authority" in listed
    assert "REVOCATION_NOT_CHECKED" in listed  # where to look for those that are not on the list
    assert 'filter message = "REVOCATION_NOT_CHECKED"' in (ROOT / "docs" / "operating.md").read_text()

    assert gjeldsbro("revocation", "refresh", "--json")[1]["lists"][0]["status"] == "unchanged"
    revocation_file.server.response = b""
    status, out, _ = gjeldsbro("revocation", "refresh", revocation_file.issuer[:6])
    assert (status, "the connection fails" in out) == (1, True)
    assert "connection fails" in gjeldsbro("revocation", "list")[1]

    assert gjeldsbro("revocation", "remove", "x")[0] == 1
    assert gjeldsbro("revocation", "remove", revocation_file.issuer[:12].upper())[0] == 0
    assert gjeldsbro("revocation", "list", "--json")[1]["lists"] == []
    short = revocation_file.issuer[:12]
    assert trail_of(partners) == [
        ("revocation put", f"revocation list {short}", "new CA"),
        ("revocation refresh", "all revocation lists", None),
        ("revocation refresh", f"revocation list {short}", None),
        ("revocation remove", f"revocation list {short}", None),
    ]


def test_a_revocation_list_that_is_no_good_is_not_configured(gjeldsbro, revocation_file):
    """The operator reads what is wrong with it, and nothing was stored."""
    revocation_file.server.response = answer(b"<html>", Content_Type="text/html")
    status, _, err = gjeldsbro("revocation", "put", revocation_file.path)
    assert (status, "a web page" in err) == (1, True)
    assert gjeldsbro("revocation", "list", "--json")[1]["lists"] == []


def test_a_revocation_list_says_when_its_callers_are_shut_out(gjeldsbro, revocation_file, aws):
    """An operator sees how long a list that has ended is still used, and when it is not any more."""
    store = Revocations(aws["PARTNER_TABLE"], boto3.client("dynamodb"))
    gjeldsbro("revocation", "put", revocation_file.path)
    (found,) = store.lists()
    now = dt.datetime.now(dt.UTC)
    for ended, words in ((dt.timedelta(days=1), "ended, in use until"), (dt.timedelta(days=4), "too old")):
        store.record(replace(found, next_update=now - ended))
        assert gjeldsbro("revocation", "list", "--json")[1]["lists"][0]["state"].startswith(words)


@pytest.mark.parametrize(("works", "expected"), [(True, 0), (False, 1)])
def test_checking_a_receiver_says_what_works(gjeldsbro, receiver_file, monkeypatch, partners, works, expected):
    """Each check is shown with its result; the exit status says whether all of it works."""
    asked = []
    checks = {"connect": "ok", "hostKey": "ok" if works else "another key"}

    def invoke(self, output, payload):
        asked.append((output, payload))
        return {"receiver": BANK, "works": works, "checks": checks}

    monkeypatch.setattr(Stack, "invoke", invoke)
    gjeldsbro("receiver", "put", str(receiver_file))
    status, out, _ = gjeldsbro("receiver", "check", BANK)
    assert status == expected
    assert "host key" in out
    assert asked == [("CheckReceiverFunctionName", {"receiver": BANK})]
    assert gjeldsbro("receiver", "check", OTHER)[0] == 1
    assert trail_of(partners)[-1][:2] == ("receiver check", f"receiver {BANK}")


@pytest.mark.parametrize(
    ("status", "expected"), [("loaded", 0), ("unchanged", 0), ("refused", 1), ("held", 1), ("failed", 1), (None, 1)]
)
def test_a_nightly_run_succeeds_only_if_every_dataset_was_taken(
    gjeldsbro, institution_file, outcomes, status, expected
):
    """Refused, held, failed and missing datasets make the exit status 1, and the table says why."""
    gjeldsbro("institution", "put", str(institution_file))
    outcome = {"status": status, "added": 3, "reason": "because"}
    outcomes({} if status is None else {f"{BANK}#9908:{BANK}": outcome})
    code, value, _ = gjeldsbro("nightly", "run", "--wait", "--json")
    assert code == expected
    assert value["state"] == "SUCCEEDED"
    assert [dataset["status"] for dataset in value["datasets"]] == [status or "missing"]


def test_a_run_that_failed_as_a_whole_is_not_a_success(gjeldsbro, institution_file, monkeypatch, outcomes):
    """A state machine that fails says so with its error, even if every dataset has an outcome."""
    gjeldsbro("institution", "put", str(institution_file))
    outcomes({f"{BANK}#9908:{BANK}": {"status": "loaded"}})
    failing = {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "ConfigurationError", "Cause": "no table"}}}
    client = boto3.client("stepfunctions")
    machine = next(m for m in client.list_state_machines()["stateMachines"] if m["name"] == "NightlyFetch")
    client.update_state_machine(stateMachineArn=machine["stateMachineArn"], definition=json.dumps(failing))
    status, value, _ = gjeldsbro("nightly", "run", "--wait", "--json")
    assert status == 1
    assert value["error"] == "ConfigurationError: no table"


def test_whoever_waits_at_a_terminal_sees_a_progress_bar(gjeldsbro, institution_file, outcomes, monkeypatch):
    """The bar counts the datasets that are done; it is left out where its output is read by a program."""
    terminal = io.StringIO()
    monkeypatch.setattr(runs, "Console", lambda **_: Console(file=terminal, force_terminal=True, width=100))
    gjeldsbro("institution", "put", str(institution_file))
    outcomes({f"{BANK}#9908:{BANK}": {"status": "loaded"}})
    assert gjeldsbro("nightly", "run", "--wait")[0] == 0
    assert "1/1" in terminal.getvalue()
    seen = len(terminal.getvalue())
    assert gjeldsbro("nightly", "run", "--wait", "--json")[0] == 0
    assert len(terminal.getvalue()) == seen


def test_a_run_without_waiting_names_itself(gjeldsbro, institution_file, outcomes, partners):
    """The run's name is the execution's, and status shows it later."""
    gjeldsbro("institution", "put", str(institution_file))
    outcomes({f"{BANK}#9908:{BANK}": {"status": "loaded", "added": 3}})
    status, value, _ = gjeldsbro("nightly", "run", "--json")
    assert status == 0
    assert value["run"].startswith("night-2")
    assert value["executionArn"].endswith(value["run"])
    status, shown, _ = gjeldsbro("nightly", "status", "--run", value["run"], "--json")
    assert [dataset["added"] for dataset in shown["datasets"]] == [3]
    assert gjeldsbro("nightly", "status", "--run", "night-0")[0] == 1
    assert trail_of(partners)[-1][:2] == ("nightly run", "all institutions")


def test_a_run_needs_something_to_fetch(gjeldsbro, institution_file):
    """An unknown institution, one that only pushes, and an empty stack are told apart."""
    assert "no institution delivers" in gjeldsbro("nightly", "run")[2]
    institution_file.write_text(
        f'financialInstitutionID: "{BANK}"\nname: x\nproviders: [{{providerID: "9908:{BANK}"}}]\n'
    )
    gjeldsbro("institution", "put", str(institution_file))
    assert "no provider of" in gjeldsbro("nightly", "run", "--institution", BANK)[2]
    assert "there is no institution" in gjeldsbro("nightly", "run", "--institution", OTHER)[2]


def test_a_dataset_at_work_is_shown_until_its_lease_ends(gjeldsbro, institution_file, partners):
    """A lease that ran out belongs to a run that died: the last outcome is shown instead."""
    gjeldsbro("institution", "put", str(institution_file))
    partners.take_lease(BANK, f"9908:{BANK}", "night-1", NOW - dt.timedelta(days=99), 60)
    assert "at work" not in gjeldsbro("nightly", "status")[1]
    partners.take_lease(BANK, f"9908:{BANK}", "night-2", dt.datetime.now(dt.UTC), 600)
    out = gjeldsbro("nightly", "status")[1]
    assert "at work" in out
    assert "night-2" in out


def test_a_held_dataset_is_shown_and_released(gjeldsbro, institution_file, partners, outcomes):
    """Release fetches again with the hold off; there must be something held."""
    gjeldsbro("institution", "put", str(institution_file))
    assert gjeldsbro("nightly", "release", BANK)[0] == 1
    dataset = partners.take_lease(BANK, f"9908:{BANK}", "night-1", NOW, 60)
    last = {"run": "night-1", "status": "held", "at": "2026-11-22T05:05:00.0000000Z", "reason": "60 % fewer"}
    partners.update_dataset(dataset, "night-1", held=True, customers=120, last_run=last, lease=None)
    status, value, _ = gjeldsbro("nightly", "status", "--json")
    assert (status, value["datasets"][0]["held"], value["datasets"][0]["lastRun"]["status"]) == (0, True, "held")
    out = gjeldsbro("nightly", "status")[1]
    assert "60 % fewer" in out
    assert "2026-11-22 05:05:00Z" in out
    started = outcomes({f"{BANK}#9908:{BANK}": {"status": "loaded"}})
    assert gjeldsbro("nightly", "release", BANK, "--wait", "--reason", "merger")[0] == 0
    assert started == [("nightly", {"institution": BANK, "hold": False})]
    assert trail_of(partners)[-1] == ("nightly release", f"institution {BANK}", "merger")


def test_an_export_succeeds_only_if_every_package_is_there(gjeldsbro, receiver_file, outcomes):
    """Delivered now or before is good; refused, failed and missing are not; an unknown list is shown only."""
    assert gjeldsbro("export", "run")[0] == 1
    gjeldsbro("receiver", "put", str(receiver_file))
    found = {
        f"{BANK}#{BANK}": {"status": "delivered", "customers": 9, "bytes": 512},
        f"{BANK}#{OTHER}": {"status": "already-delivered"},
        f"{BANK}#{PERSON[:9]}": {"status": "refused", "error": "UNKNOWN_ORGANIZATION"},
    }
    outcomes(found)
    status, out, _ = gjeldsbro("export", "run", "--wait")
    assert status == 0
    assert "UNKNOWN_ORGANIZATION" in out
    assert "--again" in out
    outcomes({f"{BANK}#{OTHER}": {"status": "refused", "error": "SSN_LIST_NOT_FOUND", "reason": "told"}})
    status, value, _ = gjeldsbro("export", "run", "--wait", "--json")
    assert status == 1
    assert {one["onBehalfOf"]: one["status"] for one in value["deliveries"]}[OTHER] == "refused"


def test_a_second_delivery_needs_a_reason_that_is_recorded(gjeldsbro, receiver_file, outcomes, partners):
    """Receiver, quarter, again and reason reach the flow; the trail keeps the reason."""
    gjeldsbro("receiver", "put", str(receiver_file))
    started = outcomes({})
    with pytest.raises(SystemExit) as usage:
        gjeldsbro("export", "run", "--again")
    assert usage.value.code == 2
    with pytest.raises(SystemExit):
        gjeldsbro("export", "run", "--quarter", "2026-5")
    gjeldsbro("export", "run", "--receiver", BANK, "--quarter", "2026-4", "--again", "--reason", "lost file")
    request = {"receiver": BANK, "quarter": "2026-4", "again": True, "reason": "lost file"}
    assert started == [("export", request)]
    assert trail_of(partners)[-1] == ("export run again", f"receiver {BANK}, quarter 2026-4", "lost file")
    assert gjeldsbro("export", "run", "--receiver", OTHER)[0] == 1


def test_export_status_shows_what_was_delivered_and_what_is_missing(gjeldsbro, receiver_file, partners):
    """The default quarter is the present one."""
    gjeldsbro("receiver", "put", str(receiver_file))
    quarter = str(Quarter.of(dt.datetime.now(dt.UTC)))
    partners.claim_delivery(BANK, BANK, quarter, "export-1", dt.datetime.now(dt.UTC), again=False)
    partners.update_delivery(BANK, BANK, quarter, "export-1", {"state": "delivered", "customers": 9, "bytes": 512})
    status, value, _ = gjeldsbro("export", "status", "--json")
    states = {one["onBehalfOf"]: one["state"] for one in value["deliveries"]}
    assert (status, states) == (0, {BANK: "delivered", OTHER: "not delivered"})
    assert "not delivered" in gjeldsbro("export", "status", "--quarter", "2020-1")[1]


@pytest.mark.parametrize(("group", "flow"), [("nightly", "nightly"), ("export", "export")])
def test_a_report_is_shown_and_its_page_written(gjeldsbro, partners, reports, tmp_path, group, flow):
    """The last run's by default: the sentence and what needs somebody, the whole as JSON, the page into a file."""
    report = night_reports(5, 3)[-1] if flow == "nightly" else export_of(20)
    reports.put(f"{flow}/second.html", b"<!DOCTYPE html>")
    reports.put_json(f"{flow}/second.json", report)
    today = from_datetime(dt.datetime.now(dt.UTC))
    where = {"reportKey": f"{flow}/second.json", "pageKey": f"{flow}/second.html"}
    ended = {"state": "finished", "startedAt": today, **where}
    partners.put_run(flow, "a-later-name", {**ended, "finishedAt": "1", "reportKey": f"{flow}/first.json"}, NOW)
    partners.put_run(flow, "a-name", {**ended, "finishedAt": "2"}, NOW)
    partners.put_run(flow, "now", {"state": "running", "startedAt": today}, NOW)

    status, shown, _ = gjeldsbro(group, "report")
    assert status == 0
    assert report["sentence"] in " ".join(shown.split())
    for problem in report["problems"]:
        assert problem["title"] in shown
    assert f"s3://gjeldsbro-reports/{flow}/second.html" in shown
    assert gjeldsbro(group, "report", "--json")[1] == report
    assert gjeldsbro(group, "report", "a-name", "--output", str(tmp_path / "page.html"))[0] == 0
    assert (tmp_path / "page.html").read_text() == "<!DOCTYPE html>"

    assert "expired" in gjeldsbro(group, "report", "a-later-name")[2]
    assert "has not reported yet" in gjeldsbro(group, "report", "now")[2]
    assert "nothing is known of a run nobody" in gjeldsbro(group, "report", "nobody")[2]
    partners.put_run(flow, "a-name", {**ended, "finishedAt": "2", "pageKey": None}, NOW)
    assert gjeldsbro(group, "report")[0] == 0
    assert "could not be made" in gjeldsbro(group, "report", "--output", str(tmp_path / "page.html"))[2]


def test_there_is_no_report_before_the_first_run(gjeldsbro):
    """That is said in a line."""
    status, _, error = gjeldsbro("nightly", "report")
    assert (status, error) == (1, "gjeldsbro: no run has reported yet\n")


def test_showing_a_customer_names_the_operator_and_prints_kroner(gjeldsbro, monkeypatch):
    """The function gets who asks and why; amounts are shown in kroner, per institution."""
    asked = []
    loan = {
        "type": "creditFacility",
        "timestamp": "2026-11-22T01:02:03.123Z",
        "accountID": "12041234567",
        "accountName": "Kort på [reise]",
        "creditLimit": "12345678",
        "interestBearingBalance": "5",
        "nonInterestBearingBalance": "100",
        "nominalInterestRate": "1020",
        "installmentCharges": "0",
        "coBorrower": "2",
        "providerID": f"9908:{BANK}",
        "source": "dataset",
    }

    def invoke(self, output, payload):
        asked.append((output, payload))
        one = {"financialInstitutionID": BANK, "name": "Testbanken", "loans": [loan], "sources": []}
        return {"institutionsWithDebt": [BANK], "conflicts": 0, "institutions": [one]}

    monkeypatch.setattr(Stack, "invoke", invoke)
    status, out, _ = gjeldsbro("show-customer", PERSON, "--reason", "access request")
    assert status == 0
    for text in ("123 456.78", "1.05", "10.20 %", "has one", "Kort på [reise]", "2026-11-22 01:02:03Z", "Testbanken"):
        assert text in out
    (output, payload) = asked[0]
    assert output == "ShowCustomerFunctionName"
    assert (payload["customerID"], payload["reason"]) == (PERSON, "access request")
    assert payload["operator"].startswith("arn:aws:")
    status, _, err = gjeldsbro("show-customer", PERSON[:-1])
    assert (status, PERSON[:-1] in err) == (1, False)


def test_our_client_certificate_is_stored_when_it_fits_its_key(gjeldsbro, tmp_path, aws, partners):
    """The functions read it as it was stored; a key of another certificate or an expired one is refused."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gjeldsbro")])
    now = dt.datetime.now(dt.UTC)

    def certificate(until):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - dt.timedelta(days=9)).not_valid_after(until)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def pem(private_key):
        return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    files = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    files[0].write_bytes(certificate(now + dt.timedelta(days=9)))
    files[1].write_bytes(pem(key))
    assert gjeldsbro("certificate", "put", *map(str, files))[0] == 0
    stored = Secrets(boto3.client("secretsmanager")).client_certificate(aws["CLIENT_CERTIFICATE_SECRET"])
    assert stored == (files[0].read_text(), files[1].read_text())
    assert trail_of(partners)[-1][0] == "certificate put"
    files[1].write_bytes(pem(other))
    assert "does not belong" in gjeldsbro("certificate", "put", *map(str, files))[2]
    files[1].write_bytes(pem(key))
    files[0].write_bytes(certificate(now - dt.timedelta(days=1)))
    assert "not valid now" in gjeldsbro("certificate", "put", *map(str, files))[2]
    assert "no PEM certificate" in gjeldsbro("certificate", "put", str(files[1]), str(files[1]))[2]


def test_the_trail_is_shown(gjeldsbro, institution_file):
    """Who, when, what and why of the last days."""
    gjeldsbro("institution", "put", str(institution_file), "--reason", "new bank")
    status, value, _ = gjeldsbro("trail", "--json")
    assert status == 0
    assert [(entry["action"], entry["reason"]) for entry in value["trail"]] == [("institution put", "new bank")]
    assert "new bank" in gjeldsbro("trail")[1]


def test_a_reason_may_not_mention_a_person(gjeldsbro, institution_file, partners):
    """The trail is kept for years and holds no identity numbers; the refusal does not repeat it."""
    status, _, err = gjeldsbro("institution", "put", str(institution_file), "--reason", f"asked by {PERSON}")
    assert status == 1
    assert PERSON not in err
    assert partners.institutions() == []


@pytest.mark.parametrize("reason", ["", "  "])
@pytest.mark.parametrize(
    "command",
    [
        ("lookups", PERSON),
        ("show-customer", PERSON),
        ("export", "run", "--receiver", BANK, "--again"),
        ("institution", "remove", BANK),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_reason_is_never_empty(gjeldsbro, partners, capsys, command, reason):
    """Where one is given or needed, it says something; the command is not understood otherwise, and does nothing."""
    with pytest.raises(SystemExit) as ended:
        gjeldsbro(*command, "--reason", reason)
    assert ended.value.code == 2
    assert "--reason: must not be empty" in capsys.readouterr().err
    assert trail_of(partners) == []


def test_a_missing_stack_or_output_is_one_clear_line(gjeldsbro, monkeypatch, tmp_path):
    """No traceback, the exit status is 1, and the line names what is missing."""
    monkeypatch.setenv("GJELDSBRO_STACK", "nowhere")
    status, _, err = gjeldsbro("institution", "list", stack=False)
    assert (status, err) == (1, "gjeldsbro: there is no stack nowhere in this account and Region\n")
    monkeypatch.delenv("GJELDSBRO_STACK")
    with pytest.raises(SystemExit) as usage:
        gjeldsbro("institution", "list", stack=False)
    assert usage.value.code == 2
    with pytest.raises(SystemExit):
        gjeldsbro("--local", "institution", "list")
    monkeypatch.setenv("GJELDSBRO_STACK_FILE", str(tmp_path / "stack.json"))
    status, _, err = gjeldsbro("institution", "list", "--local", stack=False)
    assert (status, "is the local stack up" in err.splitlines()[-1]) == (1, True)
    (tmp_path / "stack.json").write_text("{}")
    assert "not a local stack file" in gjeldsbro("institution", "list", "--local", stack=False)[2]


def test_a_list_is_checked_as_the_export_reads_it(gjeldsbro, tmp_path):
    """Counts, invalid and duplicate entries; a list that the export refuses is refused with the same code."""
    numbers = Population(1, people=10, institutions=1).customer_ids
    file = tmp_path / f"{BANK}.txt"
    file.write_bytes(ssn_list(numbers, invalid=["abc"], duplicates=[numbers[0]]))
    for arguments, stack in ((["check-list", str(file), "--json"], True), (["check-list", str(file), "--json"], False)):
        status, value, _ = gjeldsbro(*arguments, stack=stack)
        assert status == 0
        assert (value["numbersInList"], value["numbersInPackage"]) == (12, 10)
        assert (value["firstInvalid"], value["firstDuplicates"]) == (["abc"], [numbers[0]])
        assert value["fileNameIsOrganisation"]
    assert "Numbers in package: 10" in gjeldsbro("check-list", str(file), stack=False)[1]
    status, value, _ = gjeldsbro("check-list", str(file), "--accepts", "production", "--json", stack=False)
    assert (status, value["error"]) == (1, "NO_VALID_NUMBERS")
    (tmp_path / "list.csv").write_bytes(b"")
    status, value, _ = gjeldsbro("check-list", str(tmp_path / "list.csv"), "--json", stack=False)
    assert (status, value["error"], value["fileNameIsOrganisation"]) == (1, "SSN_LIST_EMPTY", False)
    assert gjeldsbro("check-list", str(tmp_path / "missing.txt"), stack=False)[0] == 1


def test_a_population_is_written_to_files(gjeldsbro, tmp_path):
    """Datasets, institution files that `institution put` takes, and an SSN list come from the same seed."""
    folder = tmp_path / "data"
    options = ("--people", "60", "--institutions", "6", "--seed", "4")
    arguments = (
        "datasets",
        *options,
        "--out",
        str(folder),
        "--page-size",
        "10",
        "--url",
        "https://fi.example.no/debt-information/v1",
    )
    status, value, _ = gjeldsbro("population", *arguments, "--json", stack=False)
    assert status == 0
    population = Population(4, people=60, institutions=6)
    assert sum(dataset["customers"] for dataset in value["datasets"]) == sum(
        population.count(*dataset) for dataset in population.datasets
    )
    pages = sorted(folder.glob("*/*/*.json"))
    assert len(pages) == sum(dataset["pages"] for dataset in value["datasets"])
    for file in sorted(folder.glob("institution-*.yaml")):
        assert gjeldsbro("institution", "put", str(file))[0] == 0
    file = tmp_path / f"{BANK}.txt"
    options += ("--out", str(file), "--count", "20", "--invalid", "2", "--duplicates", "1")
    assert gjeldsbro("population", "ssn-list", *options, stack=False)[0] == 0
    assert len(file.read_text().split(",")) == 23
    status, value, _ = gjeldsbro("population", "describe", "--people", "60", "--night", "2", "--json", stack=False)
    assert (status, value["night"]) == (0, 2)
    wrong = (*options[:-4], "--invalid", "21")
    assert gjeldsbro("population", "ssn-list", *wrong, stack=False)[0] == 1


def test_an_aws_error_is_one_clear_line(gjeldsbro, partners, aws):
    """What AWS refuses is named by operation and code."""
    boto3.client("dynamodb").delete_table(TableName=aws["PARTNER_TABLE"])
    status, _, err = gjeldsbro("receiver", "list")
    assert status == 1
    assert err.startswith("gjeldsbro: Query: ResourceNotFoundException")


def test_what_the_function_raised_is_shown(gjeldsbro, monkeypatch):
    """A function's error comes back under its own name."""

    class Client:
        def invoke(self, **_):
            payload = json.dumps({"errorType": "InvalidMessageError", "errorMessage": "/customerID: must be synthetic"})
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(payload.encode())}

    original = Stack._client
    monkeypatch.setattr(
        Stack,
        "_client",
        lambda self, service, *rest: Client() if service == "lambda" else original(self, service, *rest),
    )
    status, _, err = gjeldsbro("show-customer", PERSON)
    assert (status, err) == (1, "gjeldsbro: InvalidMessageError: /customerID: must be synthetic\n")


def test_a_run_from_scratch_is_asked_for_with_a_reason(gjeldsbro, institution_file, partners, outcomes):
    """It is no everyday command: the trail says why, and the flow is told."""
    gjeldsbro("institution", "put", str(institution_file))
    started = outcomes({f"{BANK}#9908:{BANK}": {"status": "loaded"}})
    status, _, error = gjeldsbro("nightly", "run", "--from-scratch")
    assert status == 1
    assert "--reason" in error
    arguments = ("--from-scratch", "--institution", BANK, "--reason", "index lost", "--wait")
    assert gjeldsbro("nightly", "run", *arguments)[0] == 0
    assert started == [("nightly", {"institution": BANK, "fromScratch": True})]
    assert trail_of(partners)[-1] == ("nightly run --from-scratch", f"institution {BANK}", "index lost")
