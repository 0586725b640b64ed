"""The connection check on moto: from the API Gateway event to what the PartnerTable knows of the caller."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from functions.check_connection import check_connection
from functions.receive_push import receive_push
from tests.client_certificates import BANK, OTHER_BANK, request, seid_2

from gjeldsbro.domain.connection_messages import ConnectionResponse
from gjeldsbro.services.ports import Institution, Lender, Provider

EVENTS = Path(__file__).parents[2] / "events"
PATH = "/debt-information/v1/connection"
PROVIDER = f"9908:{BANK}"
CONTEXT = SimpleNamespace(aws_request_id="0b9cf2a5-5f5c-4a3e-8a3c-0b1f7c9d2e11", get_remaining_time_in_millis=lambda: 1)


def check(event):
    """The function's status and body."""
    answer = check_connection.lambda_handler(event, CONTEXT)
    return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def bank(partners):
    """Testbanken, which reports itself."""
    partners.put_institution(Institution(BANK, "Testbanken AS", providers=(Provider(PROVIDER, url="https://x"),)))


def test_the_sample_event_is_answered(bank):
    """What is sent is what the API's description says, field for field."""
    status, body = check(json.loads((EVENTS / "check_connection.json").read_text(encoding="utf-8")))

    assert status == 200
    assert ConnectionResponse.model_validate_json(json.dumps(body)).model_dump(mode="json") == body
    assert (body["organisation"], body["lender"]) == (f"NTRNO-{BANK}", None)
    assert [one["providerID"] for one in body["institutions"]] == [PROVIDER]


def test_a_push_is_seen_in_the_connection_check(bank, aws):
    """Once a push is accepted the provider can see when that was; one that is refused leaves no mark."""
    receive_push._secrets.cache_clear()
    asked = request(method="GET", path=PATH, resource=PATH, pem=seid_2(BANK))
    refused = receive_push.lambda_handler(request("{", pem=seid_2(BANK)), CONTEXT)
    assert refused["statusCode"] == 400
    assert check(asked)[1]["institutions"][0]["lastPush"] is None

    pushed = json.loads((EVENTS / "receive_push.json").read_text(encoding="utf-8"))
    receipt = json.loads(receive_push.lambda_handler(pushed, CONTEXT)["body"])
    last_push = check(asked)[1]["institutions"][0]["lastPush"]
    assert last_push[:19] == receipt["timestamp"][:19]


def test_a_refused_dataset_is_seen_in_the_connection_check(bank, partners):
    """The places and rules that a night stored with the dataset."""
    now = datetime.now(UTC)
    dataset = partners.take_lease(BANK, PROVIDER, "run", now, 60)
    violations = [{"place": "page 0 /customers/1/customerID", "rule": "is mandatory (SPEC 4.2)"}]
    run = {"run": "run", "status": "refused", "at": "2026-11-22T05:00:00.0000000Z", "reason": "page 0 ..."}
    partners.update_dataset(dataset, "run", last_run={**run, "violations": violations, "totalViolations": 1})
    _, body = check(request(method="GET", path=PATH, resource=PATH, pem=seid_2(BANK)))

    told = body["institutions"][0]["dataset"]["lastRun"]
    assert (told["status"], told["violations"], told["totalViolations"]) == ("refused", violations, 1)


def test_a_lender_is_known(partners):
    """A lender that reports nothing passes the check too."""
    partners.put_lender(Lender(OTHER_BANK, "Andrebanken", (BANK,), ("creditApplication",)))
    status, body = check(request(method="GET", path=PATH, resource=PATH, pem=seid_2(OTHER_BANK)))

    assert status == 200
    assert body["institutions"] == []
    assert body["lender"]["onBehalfOf"] == [BANK]


def test_whoever_is_not_registered_reads_what_its_certificate_names(bank):
    """403 in SPEC's model, with the organisation that we read."""
    status, body = check(request(method="GET", path=PATH, resource=PATH, pem=seid_2(OTHER_BANK)))

    assert status == 403
    assert f"NTRNO-{OTHER_BANK}" in body["errorMessage"]
    assert "Testbanken" not in str(body)


def test_nobody_is_told_anything_without_a_certificate(bank):
    """401, also for the other methods of the path; with a certificate those are 405."""
    for method in ("GET", "POST"):
        assert check(request(method=method, path=PATH, resource=PATH))[0] == 401
    assert check(request(method="POST", path=PATH, resource=PATH, pem=seid_2(BANK)))[0] == 405


def test_the_functions_routes_are_those_of_the_contract():
    """A route that is added must be added here, and is then asked without a certificate too."""
    assert check_connection.api.routes == [("GET", PATH)]
