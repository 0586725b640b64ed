"""Every answer of the API: identity first, then the route, and one model for every error."""

import base64
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from botocore.exceptions import ClientError
from tests.client_certificates import BANK, PUSH_PATH, OpenDoor, request, seid_2

from gjeldsbro import errors
from gjeldsbro.api import errors as api_errors
from gjeldsbro.api.errors import STATUSES, error_answer
from gjeldsbro.api.requests import MAX_BODY_BYTES
from gjeldsbro.api.resolver import Api
from gjeldsbro.domain.messages import ErrorResponse, SuccessResponse
from gjeldsbro.errors import (
    ConfigurationError,
    InvalidMessageError,
    NotEntitledError,
    StoreUnavailableError,
    TooManyRequestsError,
    Violation,
)

NOW = datetime(2026, 11, 22, 6, 30, 1, 234567, tzinfo=UTC)
CONTEXT = SimpleNamespace(aws_request_id="0b9cf2a5-5f5c-4a3e-8a3c-0b1f7c9d2e11", get_remaining_time_in_millis=lambda: 1)
SECRET = "17912099997"


@pytest.fixture
def api():
    """An API whose one route answers with the caller and the body's length."""
    api = Api(door=OpenDoor, now=lambda: NOW)

    @api.post(PUSH_PATH)
    def answer(asked):
        return {**asked.receipt(), "caller": asked.caller.organisation, "length": len(asked.json_body())}

    return api


def failing(error):
    """An API whose one route fails."""
    api = Api(door=OpenDoor, now=lambda: NOW)

    @api.post(PUSH_PATH)
    def fail(asked):
        raise error

    return api


def status_and_body(answer):
    """The answer's status and parsed body, when its frame is right."""
    assert answer["headers"]["Content-Type"] == "application/json"
    assert answer["isBase64Encoded"] is False
    return answer["statusCode"], json.loads(answer["body"])


def refusal(answer):
    """The status and message of an error, when its body is SPEC 4.4's."""
    status, body = status_and_body(answer)
    assert set(body) == {"errorMessage", "timestamp", "uuid"}
    assert body["timestamp"] == "2026-11-22T06:30:01.234Z"
    assert str(UUID(body["uuid"])) == body["uuid"]
    assert body["errorMessage"].isascii()
    assert body["errorMessage"].isprintable()
    return status, body["errorMessage"]


def test_answers_are_those_of_the_specification():
    """What is sent is what the models of SPEC 4.3 and 4.4 describe, field for field."""
    api = Api(door=OpenDoor, now=lambda: NOW)
    api.post(PUSH_PATH)(lambda asked: asked.receipt())
    for asked, model in ((request(pem=seid_2(BANK)), SuccessResponse), (request(), ErrorResponse)):
        body = api.handle(asked, SimpleNamespace(aws_request_id="no uuid"))["body"]
        assert model.model_validate_json(body).model_dump(mode="json") == json.loads(body)


def test_a_route_gets_the_caller_and_the_body(api):
    """A request with a certificate reaches its route, and the answer carries SPEC 4.3's receipt."""
    answer = api.handle(request('{"a":"ø"}', pem=seid_2(BANK)), CONTEXT)

    assert status_and_body(answer) == (
        200,
        {
            "timestamp": "2026-11-22T06:30:01.234Z",
            "uuid": CONTEXT.aws_request_id,
            "caller": f"NTRNO-{BANK}",
            "length": 10,
        },
    )


def test_a_route_without_a_body_is_answered_with_204():
    """Nothing to tell is 204, which has neither a body nor a type of one."""
    api = Api(door=OpenDoor, now=lambda: NOW)
    api.post(PUSH_PATH)(lambda asked: None)
    answer = api.handle(request("{}", pem=seid_2(BANK)), CONTEXT)

    assert (answer["statusCode"], answer["body"], answer["isBase64Encoded"]) == (204, "", False)
    assert answer["headers"] == {"Cache-Control": "no-store"}


def test_every_route_and_every_other_path_wants_a_certificate(api):
    """Denied by default: without a certificate there is 401, whether the path exists or not."""
    for method, path in [*api.routes, ("GET", PUSH_PATH), ("GET", "/"), ("POST", "/anything/else")]:
        status, message = refusal(api.handle(request("{}", method=method, path=path), CONTEXT))

        assert (status, message) == (401, "no client certificate")


def test_an_unknown_path_and_an_unknown_method_are_answered_in_the_same_model(api):
    """404 for a path that is none, 405 with the allowed methods for a method that is none."""
    unknown = api.handle(request(pem=seid_2(BANK), path="/debt-information/v2/loans"), CONTEXT)
    for resource in (PUSH_PATH, "/{proxy+}"):
        wrong = api.handle(request(pem=seid_2(BANK), method="DELETE", resource=resource), CONTEXT)

        assert refusal(wrong)[0] == 405
        assert wrong["headers"]["Allow"] == "POST"

    assert refusal(unknown)[0] == 404


def test_there_is_no_api_without_a_front_door():
    """Leaving it out is no way to make an API, and nobody gets to a route, or to an unknown path, but through it."""
    with pytest.raises(TypeError):
        Api()
    reached, door = [], OpenDoor()
    api = Api(door=lambda: door, now=lambda: NOW)
    api.post(PUSH_PATH)(lambda asked: reached.append(asked) or {})
    api.handle(request("{}", pem=seid_2(BANK)), CONTEXT)
    api.handle(request(pem=seid_2(BANK), path="/nothing"), CONTEXT)
    assert [caller.organisation for caller in door.admitted] == [f"NTRNO-{BANK}"] * 2

    door.admit = lambda caller, now: (_ for _ in ()).throw(TooManyRequestsError(7))
    answer = api.handle(request("{}", pem=seid_2(BANK)), CONTEXT)
    assert refusal(answer) == (429, "too many requests: send again in 7 seconds")
    assert answer["headers"]["Retry-After"] == "7"
    assert len(reached) == 1


def test_a_base_path_of_the_domain_does_not_hide_a_route(api):
    """The route is found by the template's resource, which a base path mapping leaves alone."""
    event = request("{}", pem=seid_2(BANK), path="/base/debt-information/v1/loans", resource=PUSH_PATH)

    assert api.handle(event, CONTEXT)["statusCode"] == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('APPLICATION/JSON;charset="UTF-8"', 200),
        ("application/json; charset=iso-8859-1", 415),
        ("text/plain", 415),
        ("application/jsonx", 415),
        ("", 415),
    ],
)
def test_the_body_must_be_declared_as_json_in_utf_8(api, content_type, status):
    """SPEC 3.1.3: application/json, UTF-8."""
    event = request("{}", pem=seid_2(BANK), headers={"content-type": content_type})

    assert api.handle(event, CONTEXT)["statusCode"] == status


@pytest.mark.parametrize("body", ['{"a": "å"}'.encode("latin-1"), "{}".encode("utf-16")], ids=["latin-1", "utf-16"])
def test_the_body_must_be_utf_8_in_fact(api, body):
    """What is declared as UTF-8 and is not gets 415 too (contract)."""
    event = request(base64.b64encode(body).decode(), pem=seid_2(BANK), isBase64Encoded=True)

    assert refusal(api.handle(event, CONTEXT)) == (415, "the body must be in UTF-8 (SPEC 3.1.3)")


def test_a_request_without_headers_is_no_json(api):
    """API Gateway's test console sends no headers at all."""
    event = request("{}", pem=seid_2(BANK))
    event["headers"] = None

    assert refusal(api.handle(event, CONTEXT))[0] == 415


def test_a_compressed_body_is_refused(api):
    """Nothing inflates what a request brings; the answer fits pushes and lookups alike."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    status, told = refusal(api.handle(request("{}", pem=seid_2(BANK), headers=headers), CONTEXT))

    assert status == 415
    assert "the body must not be compressed" in told
    assert "push" not in told


def test_a_base64_body_is_decoded(api):
    """API Gateway with binary media types passes bodies in base64."""
    body = base64.b64encode('{"a":"ø"}'.encode()).decode()
    answer = api.handle(request(body, pem=seid_2(BANK), isBase64Encoded=True), CONTEXT)

    assert status_and_body(answer)[1]["length"] == 10
    broken = api.handle(request("%%%", pem=seid_2(BANK), isBase64Encoded=True), CONTEXT)
    assert refusal(broken) == (400, "/: the body must be valid base64")


def test_a_body_may_have_one_mebibyte(api):
    """The limit counts bytes, not characters and not base64."""
    fits, too_much = "ø" * (MAX_BODY_BYTES // 2), "ø" * (MAX_BODY_BYTES // 2) + "x"

    assert status_and_body(api.handle(request(fits, pem=seid_2(BANK)), CONTEXT))[1]["length"] == MAX_BODY_BYTES
    assert refusal(api.handle(request(too_much, pem=seid_2(BANK)), CONTEXT))[0] == 413


def test_violations_are_listed_with_their_number():
    """400 tells places and rules, and how many more there are."""
    error = InvalidMessageError([Violation("/customers/0/customerID", "must be 11 digits")], total=23)

    assert refusal(failing(error).handle(request("{}", pem=seid_2(BANK)), CONTEXT)) == (
        400,
        "/customers/0/customerID: must be 11 digits; and 22 more",
    )


def test_what_passes_by_itself_is_503_with_a_time_to_wait():
    """A throttled table is not the sender's fault: send again."""
    throttled = ClientError({"Error": {"Code": "ThrottlingException"}}, "Query")
    for error in (StoreUnavailableError("x"), throttled):
        answer = failing(error).handle(request("{}", pem=seid_2(BANK)), CONTEXT)

        assert refusal(answer)[0] == 503
        assert answer["headers"]["Retry-After"] == "30"


def test_faults_of_ours_show_nothing(log_stream):
    """500 says nothing of what went wrong, and neither answer nor log has the exception's text."""
    for error in (KeyError(SECRET), ConfigurationError("no secret"), RuntimeError(SECRET)):
        answer = failing(error).handle(request("{}", pem=seid_2(BANK)), CONTEXT)

        assert refusal(answer) == (500, "internal error; send the message again later")
        assert answer["headers"]["Retry-After"] == "30"
    assert "UNEXPECTED_ERROR" in log_stream.getvalue()
    assert SECRET not in log_stream.getvalue()


def test_messages_are_printable_ascii():
    """SPEC's TXT format allows nothing else, whatever an error says."""
    answer = failing(NotEntitledError("für\nnobody")).handle(request("{}", pem=seid_2(BANK)), CONTEXT)

    assert refusal(answer) == (403, "f?r?nobody")


def test_an_invocation_without_a_uuid_still_gets_one(api):
    """Emulators number their invocations in other ways."""
    context = SimpleNamespace(aws_request_id="not-a-uuid", get_remaining_time_in_millis=lambda: 1)

    assert refusal(api.handle(request("{}"), context))[0] == 401


def test_every_refusal_has_a_status_of_its_own_choice():
    """An error that the other party must mend is never answered as if it were ours, and the other way round."""
    of_other_flows = {"SsnListError", "ReceiverRefusedError", "RevocationListError", "RefusedError"}
    classes = [*vars(errors).values(), *vars(api_errors).values()]
    kinds = [kind for kind in classes if isinstance(kind, type) and issubclass(kind, errors.RefusedError)]
    for kind in kinds:
        known = any(issubclass(kind, listed) for listed, _ in STATUSES)
        assert known or kind.__name__ in of_other_flows, kind
    assert error_answer(errors.UnexpectedError("KeyError")).status == 500
    assert error_answer(errors.DatasetBusyError("x")).status == 500
