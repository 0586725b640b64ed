"""What the online functions find while they are timed: five institutions, a lender, and a customer of all of them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.runtime import Code
from tests.cloudformation import functions, template
from tests.e2e.lambda_runtime import make_runtime

from gjeldsbro.adapters.aws import to_item
from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.loans import RepaymentLoan, encode_loans
from gjeldsbro.domain.purposes import PURPOSES
from gjeldsbro_local import deployment
from gjeldsbro_local.certificates import Authority
from gjeldsbro_local.stack import free_port

CUSTOMER = "17912099997"
INSTITUTIONS = ("920013015", "985815534", "974760673", "971040238", "889640782")
LOANS = 3
"""Of the customer at each institution."""

_KEY = HashKey("1", b"k" * 64)
_AT = "2026-11-20T00:00:00.0000000Z"
_EVENTS = deployment.ROOT / "events"
_VALUES = {
    "REQUESTS_PER_CALLER": "1000000000",
    "REVOCATION_GRACE_DAYS": "3",
    "LOOKUP_RETENTION_DAYS": "100",
    "MAX_LOOKUP_SECONDS": "25",
    "IDENTITY_NUMBERS": "synthetic",
    "ALLOW_PLAIN_HTTP": "false",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}


class World(NamedTuple):
    """Where things are."""

    folder: Path
    runtime: Path
    environment: dict[str, str]

    def code(self, function: str) -> Code:
        """A function of ours as it is deployed."""
        layers = [
            *template()["Globals"]["Function"]["Layers"],
            *template()["Resources"][function]["Properties"].get("Layers", []),
        ]
        places = tuple(deployment.BUILD / layer["Ref"] / "python" for layer in layers)
        return Code(functions()[function]["Handler"], deployment.BUILD / function, places)

    @property
    def push(self) -> bytes:
        """An institution's push."""
        return (_EVENTS / "receive_push.json").read_bytes()

    @property
    def lookup(self) -> bytes:
        """A lender's lookup."""
        return (_EVENTS / "search_debt.json").read_bytes()


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Build the functions, and run the fakes until the end of the block."""
    with deployment.exclusive():
        deployment.build(folder / "build.log")
    authority = Authority.create("Institutions")
    server = authority.issue_server().write(folder, "server")
    aws, institutions = free_port(), free_port()
    names = template()["Globals"]["Function"]["Environment"]["Variables"]
    environment = {
        **{name: _VALUES.get(name, name.lower()) for name in names},
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws}",
        "AWS_REGION": deployment.REGION,
        "AWS_DEFAULT_REGION": deployment.REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": "test",
    }
    content = {
        "awsPort": aws,
        "institutionPort": institutions,
        "certificate": str(server.cert_file),
        "key": str(server.key_file),
        "answers": {institution: _answer(institution) for institution in INSTITUTIONS},
        "secrets": {
            environment["HASH_KEY_SECRET"]: json.dumps({"version": _KEY.version, "key": _KEY.secret.decode()}),
            environment["CLIENT_CERTIFICATE_SECRET"]: json.dumps(_client_certificate(authority)),
        },
        "tables": {
            environment["PARTNER_TABLE"]: _partners(f"https://127.0.0.1:{institutions}", authority.certificate_pem),
            environment["REGISTER_TABLE"]: _register(),
        },
    }
    (folder / "world.json").write_text(json.dumps(content, default=lambda value: b64encode(value).decode()))
    command = [sys.executable, "-m", "tests.bench.fakes", str(folder / "world.json")]
    with subprocess.Popen(command, cwd=deployment.ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}) as fakes:
        try:
            while not (folder / "ready").exists():
                assert fakes.poll() is None
                time.sleep(0.02)
            yield World(folder, make_runtime(folder / "runtime"), environment)
        finally:
            fakes.terminate()


def _client_certificate(authority: Authority) -> dict[str, str]:
    issued = authority.issue_client("920013015")
    return {"certificate": issued.certificate_pem, "privateKey": issued.key_pem}


def _provider(institution: str) -> str:
    return f"9908:{institution}"


def _partners(url: str, ca: str) -> dict[str, list[dict[str, Any]]]:
    institutions = [
        {
            "pk": "INSTITUTION",
            "sk": institution,
            "name": "Testbanken",
            "maxShrinkPercent": 30,
            "ended": False,
            "lookup": "both",
            "providers": [{"providerID": _provider(institution), "url": url, "ca": ca, "ended": False}],
        }
        for institution in INSTITUTIONS
    ]
    datasets = [
        {"pk": "DATASET", "sk": f"{institution}#{_provider(institution)}", "asOf": _AT, "fetchStart": _AT, "run": "r"}
        for institution in INSTITUTIONS
    ]
    lender = {
        "pk": "LENDER",
        "sk": INSTITUTIONS[0],
        "name": "Testbanken",
        "onBehalfOf": [],
        "purposes": list(PURPOSES),
        "certificates": [],
    }
    return {
        "INSTITUTION": [to_item(item) for item in institutions],
        "DATASET": [to_item(item) for item in datasets],
        "LENDER": [to_item(lender)],
    }


def _register() -> dict[str, list[dict[str, Any]]]:
    key = _KEY.partition_key(_KEY.customer_key(CUSTOMER))
    loans = tuple(RepaymentLoan(f"40{n}", _AT, "Loan", 10**7, 10**6, 48, 1290, 4500, 0) for n in range(LOANS))
    return {
        key: [
            to_item(
                {"pk": key, "sk": f"D#{institution}#{_provider(institution)}", "loans": encode_loans(loans), "run": "r"}
            )
            for institution in INSTITUTIONS
        ]
    }


def _answer(institution: str) -> str:
    loan = {
        "type": "repaymentLoan",
        "timestamp": "2026-11-21T00:00:00Z",
        "accountName": "Loan",
        "originalBalance": "10000000",
        "balance": "1000000",
        "terms": "48",
        "nominalInterestRate": "1290",
        "installmentCharges": "4500",
        "installmentChargePeriod": "MONTHLY",
        "coBorrower": "0",
    }
    customer = {
        "customerID": CUSTOMER,
        "financialInstitutionID": institution,
        "loans": [loan | {"accountID": f"40{n}"} for n in range(LOANS)],
    }
    return json.dumps({"providerID": _provider(institution), "customers": [customer]})
