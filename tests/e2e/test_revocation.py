"""A revoked certificate on the deployed stack: the operator configures the list, the front door knows it."""

import json
from collections.abc import Callable, Iterator

import pytest
import requests
import yaml
from tests.integration.revocation_server import RevocationServer

from gjeldsbro_local.certificates import Issued

BANK = "920013015"
PUSH = "/debt-information/v1/loans"


@pytest.fixture(scope="module")
def push(parties, pushed) -> Callable[[Issued], requests.Response]:
    """Sends a message that would be accepted, with a certificate of the bank's."""

    def send(certificate: Issued) -> requests.Response:
        files = certificate.write(parties.directory, f"revocation-{certificate.certificate.serial_number}")
        body = json.dumps(parties.accepted[0]).encode()
        headers = {"Content-Type": "application/json"}
        where = (str(files.cert_file), str(files.key_file))
        return parties.call("POST", PUSH, body=body, headers=headers, certificate=where)

    return send


@pytest.fixture(scope="module")
def revoked(parties, push) -> Iterator[Issued]:
    """A certificate that its authority has revoked, after the operator configured the authority's list."""
    authority = parties.stack.client_ca
    certificate = authority.issue_client(BANK)
    (parties.directory / "clients-ca.pem").write_text(authority.certificate_pem)
    with RevocationServer(authority, parties.directory) as server:
        server.give(certificate.certificate.serial_number)
        file = parties.directory / "revocation.yaml"
        file.write_text(yaml.safe_dump({"name": "Clients", "issuerFile": "clients-ca.pem", "url": server.url}))
        told = parties.gjeldsbro("revocation", "put", str(file), "--reason", "stolen key")
        assert (told["status"], told["revoked"]) == ("refreshed", 1)
        yield certificate


def test_a_revoked_certificate_is_refused_and_its_sibling_is_not(parties, push, revoked) -> None:
    """The same organisation's other certificate goes on working: 401 is the revoked one's alone."""
    answer = push(revoked)
    assert answer.status_code == 401
    assert answer.json()["errorMessage"] == "the client certificate is revoked"
    assert push(parties.stack.client_ca.issue_client(BANK)).status_code == 200


def test_the_operator_sees_and_refreshes_the_list(parties, revoked) -> None:
    """The list is shown as in force; fetching it again finds nothing new; both steps are on the trail."""
    (shown,) = parties.gjeldsbro("revocation", "list")["lists"]
    assert (shown["name"], shown["state"], shown["revoked"]) == ("Clients", "in force", 1)
    assert parties.gjeldsbro("revocation", "refresh")["lists"][0]["status"] == "unchanged"
    actions = [entry["action"] for entry in parties.gjeldsbro("trail")["trail"]]
    assert {"revocation put", "revocation refresh"} <= set(actions)
