import datetime as dt
import gzip
import http.client
import ipaddress
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import zlib
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gjeldsbro_population import Population, write_dataset
from gjeldsbro_simulator import ServedDataset, Simulator, Tls
from gjeldsbro_simulator import main as simulator_command

SERVICE = "/debt-information/v1"


@pytest.fixture(scope="module")
def population():
    """Enough customers for several pages."""
    return Population(5, people=200, institutions=8)


@pytest.fixture(scope="module")
def running(population):
    """One simulator for the module."""
    datasets = [
        ServedDataset(institution=institution, provider=provider) for institution, provider in population.datasets
    ]
    with Simulator(population, datasets) as simulator:
        yield simulator


@pytest.fixture
def simulator(running):
    """The simulator with the manners of its start."""
    yield running
    running.world.reset()


@pytest.fixture
def institution(population):
    """The first institution, which delivers for itself."""
    return population.institutions[0].institution


def get(simulator, path, headers=None, *, method="GET", body=None, context=None):
    """(status, headers in lower case, body) of one request."""
    address = urlsplit(simulator.origin)
    if address.scheme == "https":
        connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def dataset_of(simulator, institution, page=0):
    """The parsed document of a page."""
    status, _, body = get(simulator, f"{SERVICE}/loans/{institution}?page={page}")
    assert status == 200
    return json.loads(body)


def numbers_in(document):
    """The identity numbers of a page."""
    return [customer["customerID"] for customer in document["customers"]]


def test_pages_together_are_the_dataset(simulator, population, institution):
    """Page 0 announces the number of pages; together they hold every customer once; a page beyond is empty."""
    dataset = population.datasets[0]
    size = population.count(*dataset) // 3
    simulator.configure(institution, page_size=size)
    _, headers, _ = get(simulator, f"{SERVICE}/loans/{institution}")
    count = int(headers["numberofpages"])
    pages = [dataset_of(simulator, institution, page) for page in range(count + 1)]
    assert count in {3, 4}
    assert pages[0]["providerID"] == dataset[1]
    assert [number for page in pages for number in numbers_in(page)] == numbers_in(
        {"customers": population.customers(*dataset)}
    )
    assert pages[-1]["customers"] == []
    assert headers["content-type"] == "application/json"


def test_without_the_header_pages_are_served_all_the_same(simulator, institution):
    """Some institutions page without announcing it: the client must ask until a page is empty."""
    simulator.configure(institution, page_size=10, announce_pages=False)
    _, headers, _ = get(simulator, f"{SERVICE}/loans/{institution}?page=1")
    assert "numberofpages" not in headers
    assert len(dataset_of(simulator, institution, 1)["customers"]) == 10


@pytest.mark.parametrize(
    ("compression", "header", "inflate"),
    [
        ("spec-deflate", "encoding", zlib.decompress),
        ("spec-raw-deflate", "encoding", lambda body: zlib.decompress(body, -15)),
        ("deflate", "content-encoding", zlib.decompress),
        ("raw-deflate", "content-encoding", lambda body: zlib.decompress(body, -15)),
        ("gzip", "content-encoding", gzip.decompress),
    ],
)
def test_each_compression_is_announced_and_inflates(simulator, institution, compression, header, inflate):
    """SPEC's Encoding header and the ordinary one, zlib and raw deflate, and gzip all carry the same document."""
    plain = dataset_of(simulator, institution)
    simulator.configure(institution, compression=compression)
    _, headers, body = get(simulator, f"{SERVICE}/loans/{institution}")
    assert headers[header] in {"deflate", "gzip"}
    assert json.loads(inflate(body)) == plain


def test_each_institution_writes_numbers_in_its_own_way(simulator, institution):
    """One sends integers where another sends strings."""

    def figures():
        customers = dataset_of(simulator, institution)["customers"]
        return {type(loan["coBorrower"]) for customer in customers for loan in customer["loans"]}

    assert figures() == {str}
    simulator.configure(institution, numbers="integers")
    assert figures() == {int}


def test_one_provider_delivers_for_two_institutions_and_two_for_one(simulator, population):
    """The path's institution decides the rows; a provider's own base URL decides which of two datasets it is."""
    third, fourth, two = population.institutions[3], population.institutions[4], population.institutions[5]
    assert dataset_of(simulator, third.institution)["providerID"] == third.providers[0]
    assert dataset_of(simulator, fourth.institution)["providerID"] == third.providers[0]
    for provider in two.providers:
        path = urlsplit(simulator.provider_url(provider)).path
        _, _, body = get(simulator, f"{path}/loans/{two.institution}")
        document = json.loads(body)
        assert document["providerID"] == provider
        assert {customer["financialInstitutionID"] for customer in document["customers"]} == {two.institution}


def test_a_single_customer_is_found_by_the_header(simulator, population, institution):
    """SPEC's document or the bare object; without debt an empty array; a malformed number is refused."""
    dataset = population.datasets[0]
    known = next(iter(population.customers(*dataset)))["customerID"]
    path = f"{SERVICE}/loans/{institution}/customer"

    def ask(number):
        status, _, body = get(simulator, path, {"customerID": number})
        return status, json.loads(body)

    assert numbers_in(ask(known)[1]) == [known]
    assert ask("00000000000") == (200, {"providerID": dataset[1], "customers": []})
    assert ask("1")[0] == 400
    simulator.configure(institution, single="bare")
    assert ask(known)[1]["customerID"] == known
    assert ask("00000000000")[1]["loans"] == []
    assert all(known not in str(request) for request in simulator.requests)


def test_the_ssn_list_drops_the_prefix_of_a_foreign_institution(simulator, population):
    """SPEC appendix E: the path and the answer hold the bare number, the providerID keeps its prefix."""
    foreign = population.institutions[6].institution
    bare = foreign.partition(":")[2]
    _, _, body = get(simulator, f"{SERVICE}/ssn/{bare}")
    document = json.loads(body)
    assert document["financialInstitutionID"] == bare
    assert document["providerID"] == foreign
    assert document["customers"] == numbers_in({"customers": population.customers(foreign, foreign)})


def test_errors_have_the_model_of_the_specification(simulator):
    """Unknown institutions, paths, methods and pages are answered with errorMessage, timestamp and uuid."""
    for path, method, expected in [
        (f"{SERVICE}/loans/000000000", "GET", 403),
        (f"{SERVICE}/nothing", "GET", 404),
        ("/", "GET", 404),
        (f"{SERVICE}/loans/000000000", "POST", 405),
    ]:
        status, headers, body = get(simulator, path, method=method)
        assert status == expected
        assert headers["content-type"] == "application/json"
        assert set(json.loads(body)) == {"errorMessage", "timestamp", "uuid"}


def test_a_failing_institution_recovers_after_the_given_times(simulator, institution):
    """``times`` makes a fault pass, so that a client's retries can be seen to work."""
    simulator.misbehave(institution, "status:429,times=2")
    answers = [get(simulator, f"{SERVICE}/loans/{institution}") for _ in range(3)]
    assert [status for status, _, _ in answers] == [429, 429, 200]
    assert answers[0][1]["retry-after"] == "1"
    assert set(json.loads(answers[0][2])) == {"errorMessage", "timestamp", "uuid"}


def test_a_cut_connection_ends_in_the_middle_of_the_body(simulator, institution):
    """The announced length is not reached: a client must notice."""
    simulator.misbehave(institution, "cut")
    with pytest.raises(http.client.IncompleteRead):
        get(simulator, f"{SERVICE}/loans/{institution}")


def test_a_slow_institution_keeps_the_client_waiting(simulator, institution):
    """The answer comes after the given seconds, or in drops."""
    simulator.misbehave(institution, "slow,seconds=0.3")
    began = time.monotonic()
    get(simulator, f"{SERVICE}/loans/{institution}")
    assert time.monotonic() - began >= 0.3
    simulator.misbehave(institution, "byte-a-second,seconds=60")
    address = urlsplit(simulator.origin)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(f"GET {SERVICE}/loans/{institution} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while not received.partition(b"\r\n\r\n")[2]:
            received += connection.recv(4096)
    assert received.endswith(b"\r\n\r\n{")


def test_other_bodies_come_with_status_200(simulator, institution):
    """Truncated JSON, HTML, another charset, a redirect and a gzip bomb are told apart by a careful client only."""
    path = f"{SERVICE}/loans/{institution}"
    simulator.misbehave(institution, "truncated-json")
    with pytest.raises(ValueError, match=r"."):
        json.loads(get(simulator, path)[2])
    simulator.misbehave(institution, "html")
    assert get(simulator, path)[1]["content-type"].startswith("text/html")
    simulator.misbehave(institution, "wrong-charset")
    _, headers, body = get(simulator, path)
    assert "iso-8859-1" in headers["content-type"]
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    simulator.misbehave(institution, "redirect")
    assert get(simulator, path)[0] == 302
    simulator.misbehave(institution, "gzip-bomb,megabytes=8")
    _, _, body = get(simulator, path)
    assert len(gzip.decompress(body)) > 500 * len(body)
    simulator.misbehave(institution, "oversized,megabytes=3")
    assert len(get(simulator, path)[2]) > 3 << 20
    for kind in ("html-as-json", "invalid-json"):
        simulator.misbehave(institution, kind)
        _, headers, body = get(simulator, path)
        assert headers["content-type"] == "application/json"
        with pytest.raises(ValueError, match=r"."):
            json.loads(body)
    simulator.misbehave(institution, "undeclared-charset")
    assert get(simulator, path)[1]["content-type"] == "application/json"


def test_paging_faults_contradict_themselves(simulator, institution):
    """The announced number of pages grows, every page is the first one, or one in the middle is blank."""
    simulator.configure(institution, page_size=20)
    simulator.misbehave(institution, "page-count")
    counts = [get(simulator, f"{SERVICE}/loans/{institution}?page={page}")[1]["numberofpages"] for page in (0, 1)]
    assert counts[0] != counts[1]
    simulator.misbehave(institution, "repeated-page")
    assert dataset_of(simulator, institution, 0) == dataset_of(simulator, institution, 1)
    simulator.misbehave(institution, "blank-page")
    assert [len(dataset_of(simulator, institution, page)["customers"]) for page in (0, 1, 2)] == [20, 0, 20]


def test_content_faults_break_one_rule_at_one_place(simulator, institution):
    """Each leaves the rest of the page as it was, and only the page that it is for."""
    simulator.configure(institution, page_size=30)
    good = dataset_of(simulator, institution)
    seen = {}
    for kind in (
        "another-institution",
        "another-provider",
        "negative-amount",
        "float-amount",
        "bad-check-digit",
        "co-borrower",
        "quarterly-charges",
        "future-timestamp",
    ):
        simulator.misbehave(institution, kind)
        bad = dataset_of(simulator, institution)
        assert bad != good
        seen[kind] = json.dumps(bad)
        differing = [a for a, b in zip(good["customers"], bad["customers"], strict=True) if a != b]
        assert len(differing) == (0 if kind == "another-provider" else 1)
        assert dataset_of(simulator, institution, 1)["customers"] != bad["customers"]
    assert len(set(seen.values())) == len(seen)
    simulator.behave()
    assert dataset_of(simulator, institution) == good


def test_a_dataset_can_shrink_vanish_or_repeat_a_customer(simulator, population, institution):
    """Half of the customers, none at all, or the first one twice."""
    numbers = numbers_in(dataset_of(simulator, institution))
    simulator.misbehave(institution, "shrink")
    assert numbers_in(dataset_of(simulator, institution)) == numbers[::2]
    simulator.misbehave(institution, "empty")
    assert numbers_in(dataset_of(simulator, institution)) == []
    simulator.misbehave(institution, "duplicate-customer")
    assert numbers_in(dataset_of(simulator, institution)) == [*numbers, numbers[0]]
    simulator.configure(institution, page_size=len(numbers) // 2 + 1)
    assert numbers_in(dataset_of(simulator, institution, 1))[-1] == numbers[0]
    simulator.behave()
    whole = dataset_of(simulator, institution)["customers"][0]
    simulator.misbehave(institution, "split-customer")
    first, last = (dataset_of(simulator, institution, page)["customers"][-page] for page in (0, 1))
    assert [first["loans"], last["loans"]] == [whole["loans"][:1], whole["loans"][1:]]


def test_admin_steers_a_running_simulator(population):
    """Faults, manners and the next night can be set over HTTP; nonsense is refused in the error model."""
    institution = population.institutions[0].institution
    with Simulator(population) as simulator:

        def admin(method, path, document=None):
            status, _, body = get(simulator, f"/admin/{path}", method=method, body=json.dumps(document or {}))
            return status, json.loads(body)

        assert admin("PUT", f"institutions/{institution}/fault", {"kind": "status", "status": 500})[0] == 200
        assert get(simulator, f"{SERVICE}/loans/{institution}")[0] == 500
        assert admin("DELETE", f"institutions/{institution}/fault")[0] == 200
        assert admin("PATCH", f"institutions/{institution}", {"page_size": 5})[1]["page_size"] == 5
        before = dataset_of(simulator, institution)
        status, night = admin("POST", "night", {"night": 2, "percent": 20})
        assert status == 200
        assert any(change["changed"] for change in night["changes"])
        assert dataset_of(simulator, institution) != before
        assert admin("GET", "institutions")[1][0]["page_size"] == 5
        assert {request["path"] for request in admin("GET", "requests")[1]} >= {f"{SERVICE}/loans/{institution}"}
        assert admin("POST", "reset")[0] == 200
        assert admin("PUT", f"institutions/{institution}/fault", {"kind": "sulk"})[0] == 400
        assert admin("PUT", "institutions/000000000/fault", {"kind": "cut"})[0] == 404
        assert admin("POST", "night", {"night": 1})[0] == 400
        assert admin("GET", "nothing")[0] == 404
    with Simulator(population, admin=False) as simulator:
        assert get(simulator, "/admin/institutions")[0] == 404


def test_the_command_serves_a_folder_until_it_is_ended(population, tmp_path):
    """It names its address on the first line, writes institution files, and ends with the signal."""
    institution, provider = population.datasets[0]
    write_dataset(population, institution, provider, tmp_path / "data", page_size=10)
    arguments = ["--port", "0", "--folder", str(tmp_path / "data"), "--institution-files", str(tmp_path)]
    arguments += ["--fault", f"{institution}=status:500,times=1"]
    command = [sys.executable, "-m", "gjeldsbro_simulator.main", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = json.loads(process.stdout.readline())["url"]
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
            statuses = []
            for _ in range(2):
                connection.request("GET", f"{urlsplit(url).path}/loans/{institution}")
                answer = connection.getresponse()
                statuses.append(answer.status)
                body = answer.read()
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert statuses == [500, 200]
    assert numbers_in(json.loads(body)) == numbers_in({"customers": population.customers(institution, provider)})
    assert url in (tmp_path / f"institution-{institution}.yaml").read_text()


def test_a_wrong_command_line_is_refused(capsys):
    """An unknown institution or fault, and a key without its certificate, are named before anything is served."""
    for wrong in (["--fault", "000000000=cut"], ["--fault", "x"], ["--key", "x"], ["--extracted-at", "2026-01-01"]):
        with pytest.raises(SystemExit) as usage:
            simulator_command.main(["--people", "5", "--institutions", "1", *wrong])
        assert usage.value.code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["--people", "5", "--institutions", "1", "--port", str(taken.getsockname()[1])]
        assert simulator_command.main(arguments) == 1
    assert "cannot listen" in capsys.readouterr().err


def certificate(name, issuer=None):
    """(certificate, key) for 127.0.0.1, self-signed or by ``issuer``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            # strict verification asks for it, except in a self-signed certificate
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer[1] if issuer else key).public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, issuer is None, issuer is None, False, False), critical=True
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def write_pem(folder, name, pair):
    """The files of a certificate and its key."""
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(pair[0].public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        pair[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files


def test_over_tls_a_client_certificate_can_be_demanded(population, tmp_path):
    """A client of the right CA is served, one without a certificate is not."""
    authority = certificate("CA")
    ca_file, _ = write_pem(tmp_path, "ca", authority)
    server = write_pem(tmp_path, "server", certificate("server", authority))
    client = write_pem(tmp_path, "client", certificate("client", authority))
    institution = population.institutions[0].institution
    with Simulator(population, tls=Tls(*server, client_ca=ca_file)) as simulator:
        context = ssl.create_default_context(cafile=ca_file)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(simulator, f"{SERVICE}/loans/{institution}", context=context)
        context.load_cert_chain(*client)
        assert simulator.url.startswith("https://127.0.0.1:")
        assert get(simulator, f"{SERVICE}/loans/{institution}", context=context)[0] == 200


def test_it_ends_although_clients_keep_their_connections(population, tmp_path):
    """Whoever keeps a TLS connection and never answers a farewell holds nothing up, and nothing is left open."""
    authority = certificate("CA")
    ca_file, _ = write_pem(tmp_path, "ca", authority)
    server = write_pem(tmp_path, "server", certificate("server", authority))
    client = write_pem(tmp_path, "client", certificate("client", authority))
    context = ssl.create_default_context(cafile=ca_file)
    context.load_cert_chain(*client)
    kept = []
    with Simulator(population, tls=Tls(*server, client_ca=ca_file)) as simulator:
        for _ in range(3):
            connection = http.client.HTTPSConnection(urlsplit(simulator.origin).netloc, context=context, timeout=10)
            connection.request("GET", f"{SERVICE}/nothing")
            assert connection.getresponse().read()
            kept.append(connection)
        server_side = simulator._server.server_state.connections
        assert len(server_side) == 3
        next(iter(server_side)).timeout_keep_alive_handler()  # one of them has been idle for too long
    assert not server_side
    for connection in kept:
        connection.close()
