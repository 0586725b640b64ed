"""The functions, in process, against the API's description: no 5xx, and no answer that the document does not know."""

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from itertools import count
from types import SimpleNamespace
from uuid import uuid4

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from tests.api_properties import described_api
from tests.client_certificates import BANK, OTHER_BANK, PUSH_PATH, seid_2
from urllib3 import HTTPResponse

from gjeldsbro.domain.identity_numbers import with_check_digits
from gjeldsbro.domain.search_messages import PURPOSES
from gjeldsbro.services.ports import Institution, Lender, Provider
from gjeldsbro_local.gateway_event import Request, proxy_event
from gjeldsbro_local.gateway_routes import Route
from gjeldsbro_openapi.functions import EVERY_OTHER, api_of, deployed_routes, described_routes

API = "https://api.example.no"
PROVIDER = f"9908:{BANK}"
PERSONS = [number for serial in range(999, 500, -1) if (number := with_check_digits(f"178120{serial:03d}"))]
MESSAGE = next(route.example for route in described_routes() if route.path == PUSH_PATH)
schema = described_api(examples=40)


class Functions(HTTPAdapter):
    """Sends requests to the functions' handlers, as API Gateway would."""

    def __init__(self) -> None:
        super().__init__()
        self._functions = {path: function for function, _, path in deployed_routes()}
        certificate = x509.load_pem_x509_certificate(seid_2(BANK).encode())
        self._certificate = certificate.public_bytes(Encoding.DER)

    def send(self, request, **_):
        """The function's answer."""
        target = request.path_url
        body = request.body or b""
        asked = Request(
            request.method,
            target,
            list(request.headers.items()),
            body if isinstance(body, bytes) else body.encode(),
            "192.0.2.1",
            self._certificate,
        )
        resource = asked.path if asked.path in self._functions else EVERY_OTHER
        event = proxy_event(asked, Route(resource, None, ""), str(uuid4()), datetime.now(UTC), binary=True)
        context = SimpleNamespace(aws_request_id=str(uuid4()), get_remaining_time_in_millis=lambda: 29_000)
        told = api_of(self._functions[resource]).handle(event, context)
        body = BytesIO(told["body"].encode())
        raw = HTTPResponse(body, told["headers"], told["statusCode"], preload_content=False)
        return self.build_response(request, raw)


@pytest.fixture
def session(aws, partners) -> Iterator[requests.Session]:
    """Requests of Testbanken, which is registered as a provider and a lender, and has pushed the sample message."""
    partners.put_institution(Institution(BANK, "Testbanken AS", providers=(Provider(PROVIDER),)))
    partners.put_lender(Lender(BANK, "Testbanken AS", (OTHER_BANK,), PURPOSES))
    with requests.Session() as session:
        session.trust_env = False
        session.mount(API, Functions())
        pushed = session.post(API + PUSH_PATH, json=MESSAGE)
        assert pushed.status_code == 200, pushed.text
        yield session


@schema.parametrize()
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # one register for all requests is meant
def test_every_answer_is_described(case, session) -> None:
    """Whatever is asked, however wrong: no 5xx, and status, headers and body are in the document."""
    case.call_and_validate(API, session)


valid = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""As many valid messages in each run, and no search for the smallest one that is refused: it would take minutes."""


@valid
@given(data=st.data())
def test_a_push_that_is_described_is_taken(session, data) -> None:
    """What the document allows is accepted, once that is right in it which no schema can say.

    Those are persons, ids and times. To a schema 1.0 is an integer, which it is not to us (design decision 9); and to
    the generator, not to the schema, a line end may follow any text.
    """
    case = data.draw(schema[PUSH_PATH]["POST"].as_strategy())
    accounts = count()
    case.body["providerID"] = PROVIDER
    for customer, person in zip(case.body["customers"], PERSONS, strict=False):
        customer.update(customerID=person, financialInstitutionID=BANK)
        for loan in customer["loans"]:
            loan.update({name: int(value) for name, value in loan.items() if isinstance(value, float)})
            loan.update({name: value.rstrip("\n") for name, value in loan.items() if isinstance(value, str)})
            loan.update(accountID=str(next(accounts)), timestamp="2026-11-20T10:00:00Z")

    answer = case.call_and_validate(API, session)
    assert answer.status_code == 200, answer.json()


@valid
@given(data=st.data())
def test_a_search_that_is_described_is_taken(session, data) -> None:
    """As above; here a schema can neither say what is printable, nor that a text names no person."""
    case = data.draw(schema["/debt-search/v1/search"]["POST"].as_strategy())
    case.body.update(ssn=MESSAGE["customers"][0]["customerID"], referenceID="17")
    if case.body.get("messageToCustomer"):
        case.body["messageToCustomer"] = "a loan"
    if case.body.get("onBehalfOfOrganization"):
        case.body["onBehalfOfOrganization"] = OTHER_BANK
    for other, person in zip(case.body.get("coBorrowers") or (), PERSONS, strict=False):
        other["ssn"] = person
    wait = case.body.get("maxTimeToWait")
    if wait is not None:
        case.body["maxTimeToWait"] = wait.rstrip("\n") if isinstance(wait, str) else int(wait)

    assert case.call_and_validate(API, session).status_code == 200
