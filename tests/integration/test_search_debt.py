"""A lookup from the API Gateway event to the answer: stores in moto, institutions on loopback."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import boto3
import pytest
from functions.search_debt import search_debt
from tests.client_certificates import BANK, OTHER_BANK, request, seid_2
from tests.integration.raw_server import RawServer, answer, authority
from tests.unit.night_world import customer_json, page_json

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.lookups import LookupHistory, LookupRecorder
from gjeldsbro.adapters.register import DatasetItems
from gjeldsbro.domain.customer_answer import read_customer_answer
from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.loans import encode_loans
from gjeldsbro.domain.search_messages import SearchResponse
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import StoreUnavailableError
from gjeldsbro.lookup_wiring import CONNECTIONS
from gjeldsbro.services.ports import Institution, Lender, Provider
from gjeldsbro.settings import forget_settings
from gjeldsbro_population import Population
from gjeldsbro_population.expectation import disclosed, packaged
from gjeldsbro_population.writers import page
from gjeldsbro_simulator import ServedDataset, Simulator

PATH = "/debt-search/v1/search"
EVENT = json.loads((Path(__file__).parents[2] / "events" / "search_debt.json").read_text(encoding="utf-8"))
KEY = HashKey("1", b"k" * 64)
STRANGER = "17912099997"
NOW = datetime.now(UTC)
STORED = Population(46, 120, 3, extracted_at=NOW - timedelta(hours=3))
LIVE = STORED.changed(2, 60, extracted_at=NOW - timedelta(hours=1))
INSTITUTIONS = [institution.institution for institution in STORED.institutions]


def somebody(at: int) -> str:
    """A person with debt at so many institutions, which all say something else by now."""
    for person in STORED.customer_ids:
        before, now = STORED.expected_loans(person), LIVE.expected_loans(person)
        if len(before) == at and all(packaged(now.get(one, [])) not in ([], packaged(before[one])) for one in before):
            return person
    raise AssertionError("the population has nobody of that kind")


AT_TWO = somebody(2)
AT_ONE = somebody(1)
WITHOUT_DEBT = next(person for person in STORED.customer_ids if not STORED.expected_loans(person))


@pytest.fixture(scope="module")
def servers():
    """The institutions' servers, as they are today."""
    served = [
        ServedDataset(institution=institution, provider=provider, numbers=numbers, single=single)
        for (institution, provider), numbers, single in zip(
            LIVE.datasets, ("strings", "integers", "padded"), ("wrapped", "bare", "wrapped"), strict=True
        )
    ]
    with Simulator(LIVE, served) as simulator:
        yield simulator


@pytest.fixture
def institutions(servers):
    """The institutions' servers, well behaved when the test begins."""
    servers.behave()
    yield servers
    CONNECTIONS.close()


@pytest.fixture
def set_up(aws, partners, institutions):
    """Onboards the institutions in a mode, with the night's data in the register, and one lender."""

    def onboard(lookup="both"):
        items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), KEY.version)
        for institution, provider in STORED.datasets:
            url = institutions.provider_url(provider)
            providers = (Provider(provider, url=url),)
            partners.put_institution(Institution(institution, "Testbanken", providers=providers, lookup=lookup))
            dataset = partners.take_lease(institution, provider, "run", NOW, 60)
            partners.update_dataset(dataset, "run", as_of=from_datetime(NOW - timedelta(hours=3)))
            rows = [
                (KEY.customer_key(customer["customerID"]), encode_loans(loans))
                for customer in STORED.customers(institution, provider)
                if (loans := _loans(customer, institution, provider))
            ]
            items.write_dataset_items(institution, provider, "run", rows)

    partners.put_lender(
        Lender(BANK, "Testbanken AS", on_behalf_of=(OTHER_BANK,), purposes=("creditApplication", "payoutControl"))
    )
    return onboard


def _loans(customer, institution, provider):
    return read_customer_answer(
        page(provider, [customer], "strings"),
        customer_id=customer["customerID"],
        institution=institution,
        provider=provider,
        accepts="synthetic",
        now=NOW,
    )


@pytest.fixture
def search(aws, set_up):
    """Sends an event to the function; the answer's status and body, in SPEC's form when it is an error."""
    set_up()

    def send(event):
        context = SimpleNamespace(aws_request_id=str(uuid4()), get_remaining_time_in_millis=lambda: 29_000)
        answer = search_debt.lambda_handler(event, context)
        if answer["statusCode"] == 204:
            assert answer["body"] == ""
            return 204, None
        assert answer["headers"]["Content-Type"] == "application/json"
        body = json.loads(answer["body"])
        assert body["uuid"] == context.aws_request_id
        if answer["statusCode"] == 200:
            SearchResponse.model_validate(body, strict=False)
        else:
            assert body.keys() == {"errorMessage", "timestamp", "uuid"}
        return answer["statusCode"], body

    return send


def asked(person=AT_TWO, *, by=BANK, pem=None, **more):
    """The event of a lender's request."""
    body = {"ssn": person, "referenceID": "application 17", "maxTimeToWait": 4000, **more}
    return request(body, pem=pem or seid_2(by), path=PATH, resource=PATH)


@pytest.fixture
def history(aws):
    """The lookups on a person's record."""
    reader = LookupHistory(aws["LOOKUP_TABLE"], aws_clients.dynamodb())
    return lambda person: reader.of(KEY.partition_of(person), datetime.now(UTC))


@pytest.fixture
def told(aws):
    """The events on the bus: moto keeps those that an archive takes."""
    source = f"arn:aws:events:eu-north-1:123456789012:event-bus/{aws['LOOKUP_BUS']}"
    aws_clients.events().create_archive(ArchiveName="all", EventSourceArn=source)

    def events():
        from moto.events.models import events_backends

        found = events_backends["123456789012"]["eu-north-1"].archives["all"].events
        return [json.loads(event) if isinstance(event, str) else event for event in found]

    return events


def test_every_institution_answers_for_itself(search):
    """The answer holds what the institutions say now, and not what the night said."""
    status, body = search(asked())
    assert status == 200
    assert disclosed(body["loans"]) == STORED.expected_lookup(AT_TWO, live=LIVE)
    assert disclosed(body["loans"]) != STORED.expected_lookup(AT_TWO, live=STORED)
    assert (body["numberOfCreditorsAnswered"], body["numberOfcreditorsMissing"]) == (2, 0)
    assert (body["ssn"], body["referenceID"]) == (AT_TWO, "application 17")
    assert "coBorrowers" not in body


def test_an_institution_is_shown_our_certificate(search, aws, partners, tmp_path):
    """A server that lets nobody in without our certificate answers the lookup."""
    institution, provider = STORED.datasets[0]
    document = customer_json(STRANGER, 777, timestamp=from_datetime(NOW), institution=institution)
    theirs, ours = authority("institution"), authority("ours")
    certificate = dict(zip(("certificate", "privateKey"), ours.issue(), strict=True))
    boto3.client("secretsmanager").put_secret_value(SecretId="client-certificate", SecretString=json.dumps(certificate))
    body = answer(page_json([document], provider))
    with RawServer(
        lambda stream, _: stream.sendall(body), folder=tmp_path, pair=theirs.issue(), client_ca=ours.pem
    ) as server:
        providers = (Provider(provider, url=server.url, ca=theirs.pem, dataset="ssn"),)
        partners.put_institution(Institution(institution, "Testbanken", providers=providers, lookup="live"))
        items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), KEY.version)
        items.write_dataset_items(institution, provider, "run", [(KEY.customer_key(STRANGER), encode_loans(()))])
        status, found = search(asked(STRANGER))
    assert status == 200
    assert [entry["loan"]["balance"] for entry in found["loans"]] == ["777"]


def test_nothing_tells_who_the_creditors_are(search):
    """No institution, no real account, no account's name; and one timestamp for all loans."""
    _, body = search(asked())
    text = json.dumps(body)
    accounts = [loan["accountID"] for loans in LIVE.expected_loans(AT_TWO).values() for loan in loans]
    assert not [value for value in (*INSTITUTIONS, *accounts, "accountName", "financialInstitution") if value in text]
    assert {entry["loan"]["timestamp"] for entry in body["loans"]} == {body["timestamp"]}


@pytest.mark.parametrize("fault", ["status:503", "cut", "html", "truncated-json", "slow,seconds=6"])
def test_the_register_stands_in_for_whoever_does_not_answer(search, institutions, fault):
    """Down, broken off, no JSON, late: the night's data takes its place, and the answer says so."""
    down = next(iter(STORED.expected_loans(AT_TWO)))
    institutions.misbehave(down, fault)
    began = time.monotonic()
    status, body = search(asked(maxTimeToWait=1000))
    assert status == 200
    assert time.monotonic() - began < 4
    assert disclosed(body["loans"]) == STORED.expected_lookup(AT_TWO, live=LIVE, down=[down])
    assert (body["numberOfCreditorsAnswered"], body["numberOfcreditorsMissing"]) == (1, 1)
    assert [entry["answered"] for entry in body["creditors"]] == [True, False]


def test_a_request_that_got_lost_is_sent_again(search, institutions):
    """Once too slow, then well: the answer comes within the time that the lender gave."""
    for institution in STORED.expected_loans(AT_TWO):
        institutions.misbehave(institution, "slow,seconds=9,times=1")
    status, body = search(asked(maxTimeToWait=4000))
    assert status == 200
    assert body["numberOfcreditorsMissing"] == 0
    assert disclosed(body["loans"]) == STORED.expected_lookup(AT_TWO, live=LIVE)


def test_nobody_waits_longer_than_we_may(search, institutions, monkeypatch):
    """API Gateway would hang up first: the lender's own wait is cut off at ours."""
    monkeypatch.setenv("MAX_LOOKUP_SECONDS", "1")
    forget_settings()
    for institution in STORED.expected_loans(AT_TWO):
        institutions.misbehave(institution, "slow,seconds=9")
    began = time.monotonic()
    status, body = search(asked(maxTimeToWait=60000))
    assert (status, body["numberOfcreditorsMissing"]) == (200, 2)
    assert time.monotonic() - began < 4


def test_without_stored_data_a_missing_creditor_is_a_loan_that_is_not_known(search, set_up, institutions):
    """An institution that is always asked has nothing that stands in: its entry has no loan."""
    set_up("live")
    down, *_ = STORED.expected_loans(AT_TWO)
    institutions.misbehave(down, "status:500")
    status, body = search(asked(maxTimeToWait=1000))
    assert status == 200
    assert body["loans"][-1] == {"source": "none", "loan": None}
    assert body["creditors"][-1] == {"answered": False, "source": "none", "numberOfLoans": 0}
    assert [entry["source"] for entry in body["loans"]].count("institution") == len(body["loans"]) - 1


def test_institutions_that_are_never_asked_are_answered_from_the_register(search, set_up, institutions):
    """Mode stored: nobody is asked, and nobody is missing."""
    set_up("stored")
    before = len(institutions.requests)
    status, body = search(asked())
    assert status == 200
    assert len(institutions.requests) == before
    assert disclosed(body["loans"]) == STORED.expected_lookup(AT_TWO, live=LIVE, down=INSTITUTIONS)
    assert body["numberOfcreditorsMissing"] == 0


@pytest.mark.parametrize("person", [WITHOUT_DEBT, STRANGER], ids=["no debt", "never heard of"])
def test_nothing_found_is_204_and_recorded_all_the_same(search, history, told, person):
    """No body, and no difference between who has no debt and who is no customer; the person can see that one asked."""
    assert search(asked(person)) == (204, None)
    (record,) = history(person)
    assert (record.lender, record.reference) == (BANK, "application 17")
    (event,) = told()
    assert event["detail"]["referenceID"] == "application 17"


def test_co_borrowers_are_answered_each_by_itself(search, history, told):
    """In the order in which they were asked for; each is on record as what it is, and each gets a notice."""
    status, body = search(asked(coBorrowers=[{"ssn": AT_ONE}, {"ssn": WITHOUT_DEBT}]))
    assert status == 200
    assert [other["ssn"] for other in body["coBorrowers"]] == [AT_ONE, WITHOUT_DEBT]
    assert disclosed(body["coBorrowers"][0]["loans"]) == STORED.expected_lookup(AT_ONE, live=LIVE)
    assert body["coBorrowers"][1]["loans"] == []
    assert [history(one)[0].role for one in (AT_TWO, AT_ONE, WITHOUT_DEBT)] == ["applicant", *["coBorrower"] * 2]
    assert len(told()) == 3


def test_the_record_and_the_event_say_who_asked_and_why(search, history, told):
    """On behalf of whom, what for, which creditors answered: all but the person's number and the debt."""
    event = asked(onBehalfOfOrganization=OTHER_BANK, purpose="payoutControl", messageToCustomer="Utbetaling av lån")
    _, body = search(event)
    (record,) = history(AT_TWO)
    assert (record.lender, record.on_behalf_of, record.purpose) == (BANK, OTHER_BANK, "payoutControl")
    assert record.lookup_id == body["uuid"]
    assert {creditor.institution for creditor in record.creditors} == set(STORED.expected_loans(AT_TWO))
    (event,) = told()
    detail = event["detail"]
    assert (detail["lenderName"], detail["onBehalfOf"]) == ("Testbanken AS", OTHER_BANK)
    assert (detail["messageToCustomer"], detail["noticeRequired"]) == ("Utbetaling av lån", True)
    plain = boto3.client("kms").decrypt(
        KeyId=detail["customer"]["keyId"],
        CiphertextBlob=base64.b64decode(detail["customer"]["ciphertext"]),
        EncryptionContext={"lookupID": body["uuid"]},
    )
    assert plain["Plaintext"].decode() == AT_TWO
    assert AT_TWO not in json.dumps(event)


@pytest.mark.parametrize(
    ("event", "status", "place"),
    [
        pytest.param({"pem": None}, 401, "certificate", id="no certificate"),
        pytest.param({"pem": seid_2("920013014")}, 401, "certificate", id="no organisation"),
        pytest.param({"pem": seid_2("983544622")}, 403, "lender", id="no lender"),
        pytest.param({"body": {"onBehalfOfOrganization": "974760673"}}, 403, "/onBehalfOf", id="on behalf of anybody"),
        pytest.param({"body": {"purpose": "startLoan"}}, 403, "/purpose", id="not its purpose"),
        pytest.param({"body": {"purpose": "marketing"}}, 400, "/purpose", id="nobody's purpose"),
        pytest.param({"body": {"ssn": "17912099998"}}, 400, "/ssn", id="a wrong number"),
        pytest.param({"body": {"referenceID": ""}}, 400, "/referenceID", id="no reference"),
        pytest.param({"body": {"maxTimeToWait": 999}}, 400, "/maxTimeToWait", id="no time"),
        pytest.param({"body": {"coBorrowers": [{"ssn": AT_TWO}]}}, 400, "/coBorrowers/0/ssn", id="the person twice"),
        pytest.param({"body": {"messageToCustomer": f"til {AT_ONE}"}}, 400, "/messageToCustomer", id="a number in it"),
        pytest.param({"text": "{"}, 400, "/", id="no JSON"),
        pytest.param({"text": None}, 400, "/", id="no body"),
        pytest.param({"method": "GET"}, 405, "POST", id="another method"),
        pytest.param({"path": "/debt-search/v1/nothing"}, 404, "", id="another path"),
        pytest.param({"headers": {"Content-Type": "text/xml"}}, 415, "application/json", id="not declared as JSON"),
        pytest.param({"text": " " * ((1 << 20) + 1)}, 413, "", id="over 1 MiB"),
    ],
)
def test_whoever_is_refused_learns_nothing_and_leaves_nothing(
    search, institutions, history, told, log_stream, event, status, place
):
    """Every answer in SPEC's model, nobody is asked, recorded or announced, and no value is repeated."""
    given = {"pem": seid_2(BANK), "path": PATH, **event}
    body = {"ssn": AT_TWO, "referenceID": "application 17", **given.pop("body", {})}
    text = given.pop("text", body)
    given.setdefault("resource", given["path"])
    before = len(institutions.requests)
    answered, answer = search(request(text, **given))

    assert answered == status
    assert place in answer["errorMessage"]
    assert len(institutions.requests) == before
    assert (history(AT_TWO), told()) == ([], [])
    for value in (AT_TWO, AT_ONE, "17912099998", "application 17"):
        assert value not in answer["errorMessage"]
        assert value not in log_stream.getvalue()


def test_too_many_requests_are_429(search, monkeypatch, institutions):
    """The front door counts lookups as it counts pushes; nobody is asked for what is over."""
    monkeypatch.setenv("REQUESTS_PER_CALLER", "1")
    forget_settings()
    statuses = [search(asked(WITHOUT_DEBT))[0] for _ in range(4)]
    assert statuses.count(429) >= 2, "the window may end in between, once"


@pytest.mark.parametrize("store", ["record", "announce"])
def test_what_cannot_be_recorded_or_announced_is_not_disclosed(search, monkeypatch, store):
    """503, and nothing of the debt: first the person's right to know, then the lender's."""

    def fail(*_):
        raise StoreUnavailableError("x")

    from gjeldsbro.adapters.announcements import Announcements

    monkeypatch.setattr(*((LookupRecorder, "record") if store == "record" else (Announcements, "announce")), fail)
    status, body = search(asked())
    assert status == 503
    assert body.keys() == {"errorMessage", "timestamp", "uuid"}


def test_a_key_that_is_gone_is_500(search, monkeypatch):
    """A fault of our set-up is ours to mend; the lender is not told what is wrong, nor what the person owes."""
    monkeypatch.setenv("NOTICE_KEY", "arn:aws:kms:eu-north-1:123456789012:key/00000000-0000-4000-8000-000000000000")
    forget_settings()
    status, body = search(asked())
    assert (status, body["errorMessage"]) == (500, "internal error; send the message again later")


def test_forged_headers_let_nobody_in(search):
    """What a client says of itself in headers is not even looked at."""
    for name in ("X-SSL-Client-S-DN", "X-Client-Cert", "X-Forwarded-Client-Cert", "X-Amzn-Mtls-Clientcert-Subject"):
        headers = {"Content-Type": "application/json", name: f"organizationIdentifier=NTRNO-{BANK}"}
        for pem, status in ((None, 401), (seid_2("983544622"), 403)):
            body = {"ssn": AT_TWO, "referenceID": "x"}
            assert search(request(body, pem=pem, path=PATH, resource=PATH, headers=headers))[0] == status


def test_the_sample_event_is_answered(search):
    """events/search_debt.json is a request that a lender may send."""
    assert search(EVENT) == (204, None)


def test_the_functions_routes_are_those_of_the_contract():
    """A route that is added must be added here, and is then asked without a certificate too."""
    assert search_debt.api.routes == [("POST", PATH)]


def test_one_line_says_what_happened_without_persons(search, log_stream):
    """Who asked, for how many, how many creditors answered, and how long it took."""
    search(asked(coBorrowers=[{"ssn": AT_ONE}]))
    lines = [json.loads(line) for line in log_stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line["message"] == "LOOKUP_ANSWERED"]
    assert (line["caller"], line["persons"], line["answered"], line["missing"]) == (f"NTRNO-{BANK}", 2, 3, 0)
    assert line["milliseconds"] >= 0
    for value in (AT_TWO, AT_ONE, "application 17"):
        assert value not in log_stream.getvalue()
