"""Pushes through the gateway, with the function in the deployed stack behind it."""

import json
from typing import Any

import pytest
import requests

from gjeldsbro_local.certificates import Authority

BANK = "920013015"
OTHER_BANK = "985815534"
PUSH = "/debt-information/v1/loans"


def in_spec_form(answer: requests.Response) -> dict[str, Any]:
    """The body of an error answer, which has the three fields of SPEC 4.4 and no more."""
    body = answer.json()
    assert body.keys() == {"errorMessage", "timestamp", "uuid"}
    assert len(body["uuid"]) == 36
    assert answer.headers["Content-Type"].startswith("application/json")
    return body


def message(parties) -> dict[str, Any]:
    """A message that would be accepted from the bank."""
    return parties.accepted[0]


def test_pushes_are_accepted(pushed) -> None:
    """The provider's own organisation gets 200 with timestamp and uuid (SPEC 4.3)."""
    assert [answer.status_code for answer in pushed] == [200] * len(pushed)
    assert all(answer.json().keys() == {"timestamp", "uuid"} for answer in pushed)


def test_resending_changes_nothing(parties, pushed) -> None:
    """The same message again is answered with 200, and the register holds what it held."""
    register = parties.stack.outputs["RegisterTableName"]
    dynamodb = parties.stack.client("dynamodb")
    before = dynamodb.scan(TableName=register)["Items"]
    assert parties.push(message(parties)).status_code == 200
    after = dynamodb.scan(TableName=register)["Items"]
    assert sorted(after, key=str) == sorted(before, key=str)


def test_an_organisation_in_the_serial_number_is_let_in(parties, pushed) -> None:
    """Older enterprise certificates name the organisation in serialNumber (decision 8)."""
    certificate = parties.certificate(BANK, named_in="serialNumber")
    headers = {"Content-Type": "application/json"}
    body = json.dumps(message(parties)).encode()
    assert parties.call("POST", PUSH, body=body, headers=headers, certificate=certificate).status_code == 200


def test_a_certificate_without_organisation_is_nobody(parties, pushed) -> None:
    """No usable organisation number: 401, whatever the message says."""
    answer = parties.push(message(parties), None)
    assert answer.status_code == 401
    in_spec_form(answer)


def test_nobody_pushes_in_anothers_name(parties, pushed) -> None:
    """The provider in the body must be the certificate's organisation: 403."""
    answer = parties.push(message(parties), OTHER_BANK)
    assert answer.status_code == 403
    in_spec_form(answer)


def test_a_provider_reports_for_its_own_institutions(parties, pushed) -> None:
    """A provider that is not registered for an institution in the message: 403."""
    foreign = json.loads(json.dumps(message(parties)))
    foreign["customers"][0]["financialInstitutionID"] = OTHER_BANK
    answer = parties.push(foreign)
    assert answer.status_code == 403
    in_spec_form(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-SSL-Client-S-DN": "2.5.4.97=NTRNO-920013015,CN=Testbanken AS,C=NO"},
        {"X-Client-Cert": "NTRNO-920013015"},
        {"X-Amzn-Mtls-Clientcert-Subject": "organizationIdentifier=NTRNO-920013015"},
        {"X-Forwarded-Client-Cert": 'Subject="organizationIdentifier=NTRNO-920013015"'},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_forged_identity_headers_get_nothing(parties, pushed, headers: dict[str, str]) -> None:
    """What a client writes into headers about itself lets nobody in: neither a stranger nor a nameless certificate."""
    assert parties.push(message(parties), OTHER_BANK, **headers).status_code == 403
    assert parties.push(message(parties), None, **headers).status_code == 401


def test_without_a_certificate_even_the_function_lets_nobody_in(parties, pushed) -> None:
    """An event without clientCert, as the API's default address would give, is 401 for every header there is."""
    event = {
        "resource": PUSH,
        "path": PUSH,
        "httpMethod": "POST",
        "headers": {
            "Content-Type": "application/json",
            "X-SSL-Client-S-DN": "2.5.4.97=NTRNO-920013015",
            "X-Amzn-Mtls-Clientcert": "NTRNO-920013015",
        },
        "requestContext": {"identity": {"sourceIp": "127.0.0.1"}},
        "body": json.dumps(message(parties)),
        "isBase64Encoded": False,
    }
    function = parties.stack.resources()["ReceivePushFunction"]
    answer = parties.stack.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    assert json.loads(answer["Payload"].read())["statusCode"] == 401


def test_broken_rules_are_listed_with_places(parties, pushed) -> None:
    """400 names every place and rule, and no identity or account number."""
    wrong = json.loads(json.dumps(message(parties)))
    loan = wrong["customers"][0]["loans"][0]
    wrong["customers"][0]["loans"] = [{**loan, "coBorrower": "3", "installmentChargePeriod": "QUARTERLY"}]
    answer = parties.push(wrong)
    text = in_spec_form(answer)["errorMessage"]
    assert answer.status_code == 400
    assert "/customers/0/loans/0/coBorrower" in text
    assert "/customers/0/loans/0/installmentChargePeriod" in text
    assert wrong["customers"][0]["customerID"] not in text
    assert loan["accountID"] not in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/debt-information", 404),
        ("POST", "/debt-information/v2/loans", 404),
        ("GET", "/debt-information/v1/loans/920013015/customer", 404),
        ("GET", PUSH, 405),
        ("DELETE", PUSH, 405),
    ],
)
def test_unknown_paths_and_methods(parties, method: str, path: str, status: int) -> None:
    """Whether API Gateway or the function answers, it is in SPEC's model (decision 14)."""
    answer = parties.call(method, path, certificate=parties.certificate(BANK))
    assert answer.status_code == status
    in_spec_form(answer)


def test_over_one_mebibyte_is_too_large(parties, pushed) -> None:
    """The function takes up to 1 MiB (contract)."""
    body = json.dumps(message(parties)).encode()
    answer = parties.push(body + b" " * (1 << 20))
    assert answer.status_code == 413
    in_spec_form(answer)


def test_over_ten_mebibytes_ends_at_the_gateway(parties) -> None:
    """API Gateway's own limit is answered in SPEC's model too."""
    answer = parties.push(b" " * (10 * 1024 * 1024 + 1))
    assert answer.status_code == 413
    in_spec_form(answer)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<loans/>", "application/xml"),
        (b"{}", "application/json; charset=latin1"),
        (b'{"a": "\xe5"}', "application/json"),
    ],
)
def test_not_json_in_utf8(parties, body: bytes, content_type: str) -> None:
    """Anything but JSON in UTF-8 is 415 (contract); bytes reach the function as they were sent."""
    answer = parties.push(body, **{"Content-Type": content_type})
    assert answer.status_code == 415
    in_spec_form(answer)


def test_the_handshake_wants_a_certificate(parties) -> None:
    """Without a client certificate, or with one of another authority, there is no connection at all."""
    with pytest.raises((requests.exceptions.SSLError, requests.exceptions.ConnectionError)):
        parties.call("GET", "/", certificate=None)
    files = Authority.create("Somebody").issue_client(BANK).write(parties.directory, "another-authority")
    with pytest.raises((requests.exceptions.SSLError, requests.exceptions.ConnectionError)):
        parties.call("GET", "/", certificate=(str(files.cert_file), str(files.key_file)))
