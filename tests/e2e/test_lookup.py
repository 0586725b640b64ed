"""A lookup through the gateway: the deployed function, live institutions, the record, and the notice."""

import base64
import json

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.e2e.lambda_runtime import role_of

from gjeldsbro_population.expectation import disclosed

BANK, OTHER_BANK, OURS = "920013015", "985815534", "983544622"
SEARCH = "/debt-search/v1/search"
REFERENCE = "application 2026-93"
NOTIFICATIONS = "notifications"


def in_spec_form(answer) -> str:
    """The message of an error, which has the three fields of SPEC 4.4 and no more."""
    body = answer.json()
    assert body.keys() == {"errorMessage", "timestamp", "uuid"}
    return body["errorMessage"]


def a_request(looked_up, **more) -> dict:
    """A request that would be answered."""
    return {"ssn": looked_up.person, "referenceID": "application 2026-94", **more}


def test_live_data_of_those_that_answer_and_stored_data_of_the_one_that_is_down(parties, looked_up) -> None:
    """SPEC use case 3: each loan is what the population says it is, now or in the night, and the answer says which."""
    assert looked_up.answer.status_code == 200, looked_up.answer.text
    body = looked_up.answer.json()
    expected = parties.second_night.expected_lookup(looked_up.person, live=looked_up.later, down=[parties.down[0]])
    assert disclosed(body["loans"]) == expected
    assert {source for source, _ in expected} == {"institution", "register"}
    assert (body["numberOfCreditorsAnswered"], body["numberOfcreditorsMissing"]) == (2, 1)
    assert sorted(creditor["source"] for creditor in body["creditors"]) == ["institution", "institution", "register"]


def test_no_creditor_and_no_account_is_named(parties, looked_up) -> None:
    """Law and design decision 11: debt, never whose."""
    text = looked_up.answer.text
    loans = [loan for loans in looked_up.later.expected_loans(looked_up.person).values() for loan in loans]
    named = [institution.rpartition(":")[2] for institution in looked_up.institutions]
    assert not [value for value in (*named, *(loan["accountID"] for loan in loans)) if value in text]


def test_the_lookup_is_on_the_persons_record(parties, looked_up) -> None:
    """An operator sees who asked, for whom, what for, and which creditors answered; and is on the trail for that."""
    (record,) = [one for one in looked_up.record["lookups"] if one["referenceID"] == REFERENCE]
    assert record["lookupID"] == looked_up.answer.json()["uuid"]
    assert (record["lender"], record["lenderName"], record["onBehalfOf"]) == (OTHER_BANK, "Andrebanken AS", BANK)
    assert (record["purpose"], record["role"]) == ("changeOfTerms", "applicant")
    asked = {creditor["institution"]: (creditor["answered"], creditor["source"]) for creditor in record["creditors"]}
    wanted = dict.fromkeys(looked_up.institutions, (True, "institution")) | {parties.down[0]: (False, "register")}
    assert asked == wanted
    trail = parties.gjeldsbro("trail")["trail"]
    assert [entry["action"] for entry in trail if entry.get("reason") == "inquiry 18"] == ["lookups"]


def test_the_notification_service_learns_who_and_nobody_else_does(parties, looked_up) -> None:
    """The event says who asked; whom, only the role that NotificationRoleArn names can decrypt."""
    (event,) = [one for one in looked_up.events if one["detail"]["referenceID"] == REFERENCE]
    detail = event["detail"]
    assert (event["source"], event["detail-type"]) == ("gjeldsbro", "DebtLookup")
    assert (detail["lenderName"], detail["onBehalfOf"], detail["messageToCustomer"]) == (
        "Andrebanken AS",
        BANK,
        "Nye vilkår",
    )
    assert detail["lookupID"] == looked_up.answer.json()["uuid"]
    sealed = {
        "KeyId": detail["customer"]["keyId"],
        "CiphertextBlob": base64.b64decode(detail["customer"]["ciphertext"]),
        "EncryptionContext": {"lookupID": detail["lookupID"]},
    }
    stack = parties.stack
    for function in ("SearchDebtFunction", "ShowLookupsFunction"):
        kms = boto3.client("kms", endpoint_url=stack.endpoint_url, **role_of(stack, function))
        with pytest.raises(ClientError, match="AccessDenied"):
            kms.decrypt(**sealed)
    trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = stack.client("iam").create_role(RoleName=NOTIFICATIONS, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    taken = stack.client("sts").assume_role(RoleArn=role, RoleSessionName="notices")["Credentials"]
    service = boto3.client(
        "kms",
        endpoint_url=stack.endpoint_url,
        region_name=stack.region,
        aws_access_key_id=taken["AccessKeyId"],
        aws_secret_access_key=taken["SecretAccessKey"],
        aws_session_token=taken["SessionToken"],
    )
    assert service.decrypt(**sealed)["Plaintext"].decode() == looked_up.person


def test_a_notice_that_nobody_could_use_is_handed_over_again(parties, looked_up) -> None:
    """What was taken ten times and never deleted becomes a dead letter, and gets back into the queue by replay."""
    while parties.notices():
        pass
    what = f"notice of lookup {looked_up.answer.json()['uuid']}"
    letters = parties.gjeldsbro("dead-letters", "list", status=1)["letters"]
    (letter,) = [letter for letter in letters if letter["what"] == what]
    parties.gjeldsbro("dead-letters", "replay", letter["id"], "--reason", "the service is mended")
    assert parties.notices() == [event for event in looked_up.events if event["detail"]["referenceID"] == REFERENCE]
    left = parties.gjeldsbro("dead-letters", "list", status=int(len(letters) > 1))["letters"]
    assert letter["id"] not in [one["id"] for one in left]


def test_nothing_known_is_204(parties, looked_up) -> None:
    """No debt, and nobody missing: no body, and nothing that tells it from a person whom nobody knows."""
    answer = parties.search({"ssn": "29822099635", "referenceID": "application 2026-95"})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("organisation", "more", "status"),
    [
        (None, {}, 401),
        (OURS, {}, 403),
        (OTHER_BANK, {"onBehalfOfOrganization": OURS}, 403),
        (OTHER_BANK, {"purpose": "creditAssessment"}, 403),
        (OTHER_BANK, {"ssn": "17912099998"}, 400),
        (OTHER_BANK, {"coBorrowers": [{"ssn": "1"}]}, 400),
    ],
)
def test_whoever_may_not_ask_is_told_nothing(parties, looked_up, organisation, more, status) -> None:
    """No certificate's organisation, no lender, not for them, not for that, not in that form."""
    answer = parties.search(a_request(looked_up, **more), organisation)
    assert answer.status_code == status
    assert looked_up.person not in in_spec_form(answer)


@pytest.mark.parametrize("name", ["X-SSL-Client-S-DN", "X-Client-Cert", "X-Forwarded-Client-Cert"])
def test_a_forged_identity_header_gets_nothing(parties, looked_up, name) -> None:
    """What a client writes into headers about itself entitles nobody."""
    headers = {name: f"organizationIdentifier=NTRNO-{OTHER_BANK}"}
    assert parties.search(a_request(looked_up), OURS, **headers).status_code == 403
    assert parties.search(a_request(looked_up), None, **headers).status_code == 401


def test_other_methods_and_bodies_are_refused_in_the_same_model(parties, looked_up) -> None:
    """405 and 415, as for a push."""
    certificate = parties.certificate(OTHER_BANK)
    get = parties.call("GET", SEARCH, certificate=certificate)
    xml = parties.call("POST", SEARCH, body=b"<a/>", headers={"Content-Type": "text/xml"}, certificate=certificate)
    assert (get.status_code, xml.status_code) == (405, 415)
    assert get.headers["Allow"] == "POST"
    assert in_spec_form(get)
    assert in_spec_form(xml)
