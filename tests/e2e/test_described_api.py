"""The deployed API against its description, over mutual TLS: no 5xx, and no answer that the document does not know."""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from tests.api_properties import described_api

from gjeldsbro_openapi.document import DOCUMENT
from gjeldsbro_openapi.page import HOST, PAGE

BANK = "920013015"
schema = described_api(examples=8)


@pytest.fixture(scope="session")
def bank(parties, answers) -> Iterator[requests.Session]:
    """Requests with the bank's certificate, after the story: what is pushed here is in nobody's way any more."""
    with requests.Session() as session:
        session.trust_env = False
        session.cert = parties.certificate(BANK)
        yield session


@schema.parametrize()
def test_every_answer_is_described(case, parties, bank) -> None:
    """Whatever is asked, however wrong, status, headers and body are in the document."""
    case.call_and_validate(parties.stack.gateway_url, bank, verify=str(parties.stack.gateway_ca_file))


def _examples() -> dict[str, tuple[str, str]]:
    """The commands and programs on the page by a name, each with the path that it asks for."""
    blocks = re.findall(r"<pre><code>(.*?)</code></pre>", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    texts = [html.unescape(block) for block in blocks if HOST in block]
    paths = [urlsplit(re.search(rf"{HOST}[^\s\"]+", text)[0]).path for text in texts]
    return {f"{text.split()[0]} {path}": (path, text) for path, text in zip(paths, texts, strict=True)}


@pytest.mark.parametrize(("path", "text"), _examples().values(), ids=_examples())
def test_the_examples_on_the_page_work(parties, bank, tmp_path, path: str, text: str) -> None:
    """What a developer copies from the page, with a certificate of its own and our address, gets an answer."""
    for name, file in zip(("client.pem", "client.key"), bank.cert, strict=True):
        (tmp_path / name).symlink_to(file)
    operations = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"][path]
    for operation in operations.values():
        if "requestBody" in operation:
            message = operation["requestBody"]["content"]["application/json"]["example"]
            (tmp_path / "message.json").write_text(json.dumps(message), encoding="utf-8")
    command = ["sh", "-c", text] if text.startswith("curl") else [sys.executable, "-c", text]
    authority = str(parties.stack.gateway_ca_file)
    done = subprocess.run(
        [part.replace(HOST, parties.stack.gateway_url) for part in command],
        cwd=tmp_path,
        env={**os.environ, "CURL_CA_BUNDLE": authority, "REQUESTS_CA_BUNDLE": authority, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "errorMessage" not in done.stdout
