"""A revoked certificate in a real TLS handshake: the gateway lets it in, the front door does not."""

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import requests
from functions.check_connection import check_connection
from functions.receive_push import receive_push
from functions.refresh_revocations import refresh_revocations
from tests.client_certificates import BANK, PUSH_PATH
from tests.gateway_template import deployed
from tests.integration.revocation_server import RevocationServer
from tests.revocation_lists import HOUR

from gjeldsbro import wiring
from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.crl import issuer_of
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.domain.revocation import chunks_of
from gjeldsbro.services.ports import Institution, Provider
from gjeldsbro_local.certificates import Authority, server_context
from gjeldsbro_local.gateway import Gateway
from gjeldsbro_local.gateway_routes import DeployedApi

NOW = datetime.now(UTC).replace(microsecond=0)
CHECK_PATH = "/debt-information/v1/connection"
CUSTOMER = {"customerID": "17912099997", "financialInstitutionID": BANK, "loans": []}
MESSAGE = {"providerID": f"9908:{BANK}", "customers": [CUSTOMER]}


class Functions:
    """The functions themselves, as the gateway invokes them."""

    def invoke(self, function, event):
        """As the gateway's Functions."""
        context = SimpleNamespace(
            aws_request_id="5d0e9f3c-1d57-4b8f-9d2c-6f5a0c9e7b11", get_remaining_time_in_millis=lambda: 29_000
        )
        # What the template's small copy has no route for is asked of the connection check.
        module = receive_push if function == "PushFunction" else check_connection
        event = {**event, "resource": event["path"]}
        return module.lambda_handler(event, context)


@pytest.fixture
def client_ca():
    """The authority whose certificates the gateway lets in."""
    return Authority.create("Clients")


@pytest.fixture
def call(aws, partners, client_ca, tmp_path):
    """Sends a push, or asks for the connection check, with a certificate."""
    receive_push._secrets.cache_clear()
    partners.put_institution(Institution(BANK, "Testbanken AS", providers=(Provider(f"9908:{BANK}"),)))
    server_ca = Authority.create("Server")
    ca_file = server_ca.write(tmp_path, "server-ca").cert_file
    tls = server_context(
        server_ca.issue_server().write(tmp_path, "server"), client_ca.write(tmp_path, "client-ca").cert_file
    )
    gateway = Gateway(DeployedApi(deployed(), {}), Functions(), tls)
    thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def send(certificate, method="POST", path=PUSH_PATH):
        files = certificate.write(tmp_path, str(certificate.certificate.serial_number))
        with requests.Session() as session:
            session.trust_env = False
            body = {"json": MESSAGE} if method == "POST" else {}
            answer = session.request(
                method,
                gateway.url + path,
                cert=(str(files.cert_file), str(files.key_file)),
                verify=str(ca_file),
                timeout=20,
                **body,
            )
        if answer.status_code >= 400:
            assert answer.json().keys() == {"errorMessage", "timestamp", "uuid"}
        return answer

    yield send
    gateway.shutdown()
    gateway.server_close()
    thread.join()


@pytest.fixture
def publish(aws, client_ca, tmp_path):
    """Publishes the client authority's list and has it fetched."""
    with RevocationServer(client_ca, tmp_path) as server:

        def put(*certificates, **values):
            server.give(*(one.certificate.serial_number for one in certificates), **values)
            new = {"name": "Clients", "url": server.url, "certificate": client_ca.certificate_pem}
            context = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 300_000)
            return refresh_revocations.lambda_handler({"put": new}, context)

        yield put


def forget_readings():
    """As after five minutes: another process, which has read nothing yet."""
    wiring._front_door.cache_clear()


def test_a_revoked_certificate_is_refused_and_its_sibling_is_not(call, publish, client_ca):
    """Old and new certificate of one provider both work, until the old one is revoked: 401 on every route."""
    old, new = client_ca.issue_client(BANK), client_ca.issue_client(BANK)
    assert {call(old).status_code, call(new).status_code} == {200}

    publish(old)
    forget_readings()
    refused = call(old)
    assert (refused.status_code, refused.json()["errorMessage"]) == (401, "the client certificate is revoked")
    assert call(old, "GET", CHECK_PATH).status_code == 401
    assert call(new).status_code == 200
    assert call(new, "GET", CHECK_PATH).status_code == 200

    publish(this_update=NOW)
    forget_readings()
    assert call(old).status_code == 200


def test_a_revoked_certificate_learns_nothing_of_paths(call, publish, client_ca):
    """The door is in front of the routes: an unknown path is 401 for it too."""
    certificate = client_ca.issue_client(BANK)
    publish(certificate)
    path = "/debt-information/v1/nothing"
    assert call(certificate, "GET", path).status_code == 401
    assert call(client_ca.issue_client(BANK), "GET", path).status_code == 404


def test_when_no_list_came_for_too_long_nobody_of_the_issuer_is_let_in(call, client_ca, aws):
    """Within the days of grace the last good list counts; after them 503, to be sent again, but 401 for the revoked."""
    revoked, good = client_ca.issue_client(BANK), client_ca.issue_client(BANK)
    issuer = issuer_of(client_ca.certificate_pem)
    store = Revocations(aws["PARTNER_TABLE"], aws_clients.dynamodb())
    chunks = chunks_of([revoked.certificate.serial_number])

    grace = timedelta(days=int(aws["REVOCATION_GRACE_DAYS"]))
    store.store(issuer, chunks, NOW - 9 * grace, NOW - grace + HOUR)
    assert (call(good).status_code, call(revoked).status_code) == (200, 401)

    store.store(issuer, chunks, NOW - 9 * grace, NOW - grace - HOUR)
    forget_readings()
    answer = call(good)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert call(revoked).status_code == 401

    store.store(issuer, chunks, NOW, NOW + HOUR)
    assert call(good).status_code == 200, "a newer list counts at once"
