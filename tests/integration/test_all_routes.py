"""Every route of the template, with each kind of caller and each kind of fault: the answer is SPEC's, and never a yes.

Routes are taken from the template. One that is added is walked by itself, and stops a test here until it says who may
use it.
"""

import base64
import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from botocore.exceptions import ClientError
from tests.api_of_template import METHODS, Route, handler, module, requests_of_all_routes, routes
from tests.client_certificates import certificate, seid_2
from tests.cloudformation import ROOT

from gjeldsbro.adapters.partners import Partners
from gjeldsbro.services.ports import Institution, Lender, Provider
from gjeldsbro.settings import forget_settings

PROVIDER, LENDER, NOBODY = "920013015", "985815534", "983544622"
"""Organisations: a provider of its own institution, a lender, and one that is registered as nothing."""

ENTITLED = {
    ("POST", "/debt-information/v1/loans"): {PROVIDER},
    ("GET", "/debt-information/v1/connection"): {PROVIDER, LENDER},
    ("POST", "/debt-search/v1/search"): {LENDER},
}
"""Who may use a route at all. What it may have there is the subject of other tests."""

OF_ALL = (200, 401, 403, 404, 405, 413, 429, 500, 502, 503, 504)
ANSWERS = {
    ("POST", "/debt-information/v1/loans"): {*OF_ALL, 400, 415},
    ("GET", "/debt-information/v1/connection"): {*OF_ALL},
    ("POST", "/debt-search/v1/search"): {*OF_ALL, 204, 400, 415},
}
"""Every status that a route can answer with, API Gateway's own included."""

SHOWN_BY = {
    200: ("test_all_routes.py", "test_whoever_is_entitled_gets_an_answer"),
    204: ("test_search_debt.py", "204"),
    400: ("test_all_routes.py", "test_a_body_that_is_no_message_is_refused"),
    401: ("test_all_routes.py", "test_whoever_has_no_name_gets_nowhere"),
    403: ("test_all_routes.py", "test_whoever_is_not_registered_gets_nothing"),
    404: ("test_all_routes.py", "test_another_method_is_405_and_another_path_404"),
    405: ("test_all_routes.py", "test_another_method_is_405_and_another_path_404"),
    413: ("test_all_routes.py", "test_a_body_that_is_no_message_is_refused"),
    415: ("test_all_routes.py", "test_a_body_that_is_not_declared_as_json_is_415"),
    429: ("test_all_routes.py", "test_a_caller_over_its_number_is_429"),
    500: ("test_all_routes.py", "test_a_fault_of_ours_is_500_and_tells_nothing"),
    502: ("test_gateway.py", "test_what_goes_wrong_behind_the_gateway"),
    503: ("test_all_routes.py", "test_a_store_that_is_not_there_is_503"),
    504: ("test_gateway.py", "test_what_goes_wrong_behind_the_gateway"),
}
"""Which test shows the status with its body, for every route that has it."""

OWN = [route for route in routes() if route.method != "ANY"]
WITH_BODY = [route for route in OWN if route.method == "POST"]
NOW = datetime.now(UTC)


@pytest.fixture
def registered(aws, partners):
    """A provider with its institution, and a lender."""
    provider = Provider(f"9908:{PROVIDER}", url="https://fi.example.no")
    partners.put_institution(Institution(PROVIDER, "Testbanken AS", providers=(provider,), lookup="stored"))
    partners.put_lender(Lender(LENDER, "Annen Bank AS", purposes=("creditApplication",)))


def event(route: Route, pem: str | None, method: str | None = None, **changes):
    """A request to a route: for one of a handler its sample event, so that nothing but the caller is wrong with it."""
    name = module(route.function).__name__.rpartition(".")[2]
    found = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    found["requestContext"]["identity"].pop("clientCert", None)
    if pem is not None:
        found["requestContext"]["identity"]["clientCert"] = {"clientCertPem": pem}
    if route.method == "ANY":
        found |= {"resource": route.path, "path": route.asked}
    assert found["resource"] == route.path
    return {**found, "httpMethod": method or found["httpMethod"], **changes}


def answer_of(route: Route, asked):
    """Status, message (None for a success) and headers of an answer whose form is right."""
    answer = handler(route.function)(deepcopy(asked))
    status, headers = answer["statusCode"], answer["headers"]
    assert headers["Cache-Control"] == "no-store"
    if status < 300:
        return status, None, headers
    assert headers["Content-Type"] == "application/json"
    assert answer["isBase64Encoded"] is False
    body = json.loads(answer["body"])
    assert body.keys() == {"errorMessage", "timestamp", "uuid"}
    assert str(UUID(body["uuid"])) == body["uuid"]
    assert abs(datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert body["errorMessage"].isascii()
    assert body["errorMessage"].isprintable()
    assert ("Retry-After" in headers) is (status == 429 or status >= 500)
    return status, body["errorMessage"], headers


def test_who_may_use_a_route_is_written_down():
    """A new route is thought about here before it is deployed."""
    assert {(route.method, route.path) for route in OWN} <= ENTITLED.keys()


def test_every_answer_is_listed_described_and_shown():
    """The lists above are those of the API's description, and each status in them has its test."""
    described = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    listed = {}
    for route in OWN:
        statuses = {int(status) for status in described[route.path][route.method.lower()]["responses"]}
        assert statuses == ANSWERS[route.method, route.path], route
        listed |= {status: SHOWN_BY[status] for status in statuses}
    for file, test in listed.values():
        assert test in (Path(__file__).parent / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("route", OWN)
def test_whoever_is_entitled_gets_an_answer(registered, route):
    """The sample event of each route, from somebody who may use it: the other tests fail for no other reason."""
    for organisation in ENTITLED[route.method, route.path]:
        assert answer_of(route, event(route, seid_2(organisation)))[0] in {200, 204}


def walk(pem):
    """(status, message) of every method of every route, with a certificate."""
    return {
        (method, route.path): answer_of(route, event(route, pem, method))[:2]
        for method, route in requests_of_all_routes()
    }


def methods_of(path):
    """The methods of a path that are routes of a handler."""
    return sorted(route.method for route in OWN if route.path == path)


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (None, "no client certificate"),
        ("", "no client certificate"),
        ("no certificate", "the client certificate cannot be read"),
        (certificate(), "the client certificate names no organisation (organizationIdentifier NTRNO-...)"),
        (
            certificate(identifiers=("NTRNO-920013014",)),
            "the organisation number in the client certificate is not valid",
        ),
        (
            certificate(identifiers=("NTRNO-920013015",), valid=(NOW - timedelta(days=9), NOW - timedelta(days=1))),
            "the client certificate has expired",
        ),
    ],
    ids=["none", "empty", "garbage", "nameless", "wrong number", "expired"],
)
def test_whoever_has_no_name_gets_nowhere(pem, message):
    """401 on every path with every method, before anything else is said, and before any store is asked."""
    assert set(walk(pem).values()) == {(401, message)}


@pytest.mark.parametrize("organisation", [f"NTRNO-{NOBODY}", "NTRSE-5569622441", "PSDSE-FINA-44059"])
def test_whoever_is_not_registered_gets_nothing(registered, organisation):
    """403 on every route; no such path, or no such method there, is 404 and 405 for strangers too."""
    for (method, path), (status, message) in walk(certificate(identifiers=(organisation,))).items():
        own = methods_of(path)
        assert status == (403 if method in own else 405 if own else 404), (method, path, message)


@pytest.mark.parametrize("route", OWN)
def test_whoever_is_registered_as_something_else_gets_nothing(registered, route):
    """A lender is no provider, and the other way round."""
    entitled = ENTITLED[route.method, route.path]
    for organisation in {PROVIDER, LENDER} - entitled:
        assert answer_of(route, event(route, seid_2(organisation)))[0] == 403
    assert entitled


def test_another_method_is_405_and_another_path_404(registered):
    """For callers that we know: with the methods that there are, and whatever the method of a path that is none."""
    for method, route in requests_of_all_routes():
        own = methods_of(route.path)
        if method in own:
            continue
        status, message, headers = answer_of(route, event(route, seid_2(PROVIDER), method))
        if own:
            assert (status, message) == (405, f"the method must be {' or '.join(own)}")
            assert headers["Allow"] == ", ".join(own)
        else:
            assert (status, message) == (404, "there is nothing at this path")


def own_caller(route):
    """The certificate of somebody who may use a route."""
    return seid_2(min(ENTITLED[route.method, route.path]))


HEADERS = (
    None,
    {},
    {"Content-Type": ""},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/xml"},
    {"Content-Type": "application/jsonp"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "application/json; charset=iso-8859-1"},
    {"content-type": "application/json;charset=utf-16"},
    {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    {"Content-Type": "application/json", "content-encoding": "deflate"},
)


@pytest.mark.parametrize("route", WITH_BODY)
def test_a_body_that_is_not_declared_as_json_is_415(registered, route):
    """Content type, charset and encoding are looked at before the body is."""
    for headers in HEADERS:
        status, message, _ = answer_of(route, event(route, own_caller(route), headers=headers))
        assert status == 415, headers
        assert "JSON" in message.upper() or "charset" in message or "compressed" in message


DEEP = 100_000
BODIES = {
    "nothing": (400, None),
    "empty": (400, b""),
    "blank": (400, b"  "),
    "half": (400, b'{"a": 1'),
    "more than one": (400, b"{}{}"),
    "a text": (400, b'"text"'),
    "a list": (400, b"[]"),
    "null": (400, b"null"),
    "not a number": (400, b'{"ssn": NaN}'),
    "a name twice": (400, b'{"ssn": "1", "ssn": "1"}'),
    "a byte-order mark": (400, b"\xef\xbb\xbf{}"),
    "lists in lists": (400, b"[" * DEEP),
    "lists in lists, closed": (400, b"[" * DEEP + b"]" * DEEP),
    "objects in objects": (400, b'{"customers":' * (DEEP // 2) + b"1" + b"}" * (DEEP // 2)),
    "deep below a name of ours": (400, b'{"customers":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    "latin-1": (415, '{"a": "å"}'.encode("latin-1")),
    "utf-16": (415, "{}".encode("utf-16")),
    "half a surrogate pair in bytes": (415, b'{"a": "\xed\xa0\x80"}'),
    "a byte over the size": (413, b"{" + b" " * (1 << 20)),
}


@pytest.mark.parametrize("route", WITH_BODY)
def test_a_body_that_is_no_message_is_refused(registered, route):
    """Size, encoding, syntax and depth of JSON: each has its status, and none is a fault of ours."""
    found = {}
    for name, (_, body) in BODIES.items():
        encoded = None if body is None else base64.b64encode(body).decode()
        asked = event(route, own_caller(route), body=encoded, isBase64Encoded=body is not None)
        found[name] = answer_of(route, asked)[0]
    assert found == {name: status for name, (status, _) in BODIES.items()}
    # API Gateway passes bodies in base64; what is none is refused as a message.
    asked = event(route, own_caller(route), body="%%%", isBase64Encoded=True)
    assert answer_of(route, asked)[:2] == (400, "/: the body must be valid base64")


@pytest.mark.parametrize("route", OWN)
def test_a_caller_over_its_number_is_429(registered, route, monkeypatch):
    """Also for what it may not do; and only as long as its window lasts."""
    monkeypatch.setattr(Partners, "count", lambda *_: 1_000_000)
    for pem in (own_caller(route), seid_2(NOBODY)):
        status, message, headers = answer_of(route, event(route, pem))
        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= 10
        assert message == f"too many requests: send again in {headers['Retry-After']} seconds"


@pytest.mark.parametrize("route", OWN)
def test_a_store_that_is_not_there_is_503(registered, route, monkeypatch):
    """Throttled, or not to be reached: the same request may succeed later."""

    def throttle(*_):
        raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "UpdateItem")

    monkeypatch.setattr(Partners, "count", throttle)
    status, message, headers = answer_of(route, event(route, own_caller(route)))
    assert (status, message) == (503, "temporarily unavailable; send again")
    assert headers["Retry-After"] == "30"


@pytest.mark.parametrize("route", OWN)
def test_a_fault_of_ours_is_500_and_tells_nothing(registered, route, monkeypatch, log_stream):
    """Neither a missing setting nor an error of a kind that nobody thought of is shown to the caller."""

    def fail(*_):
        raise KeyError("17912099997")

    with monkeypatch.context() as unset:
        unset.delenv("PARTNER_TABLE")
        forget_settings()
        assert answer_of(route, event(route, own_caller(route)))[:2] == (
            500,
            "internal error; send the message again later",
        )
    forget_settings()
    monkeypatch.setattr(Partners, "count", fail)
    assert answer_of(route, event(route, own_caller(route)))[:2] == (
        500,
        "internal error; send the message again later",
    )
    assert "17912099997" not in log_stream.getvalue()


def test_any_stands_for_every_method():
    """The walk above asks with each of them."""
    asked = {method for method, route in requests_of_all_routes() if route.path == "/{proxy+}"}
    assert asked == set(METHODS)
