"""What all rings share: no test may reach AWS or another host, and none leaves settings or clients behind."""

from collections.abc import Iterator
from io import StringIO

import pytest

from gjeldsbro.adapters import aws
from gjeldsbro.log import logger
from gjeldsbro.settings import forget_settings


@pytest.fixture(autouse=True)
def no_real_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials that are worth nothing, and fresh clients and settings for each test."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws.forget_clients()
    forget_settings()
    yield
    aws.forget_clients()
    forget_settings()


@pytest.fixture
def log_stream(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What the functions' logger writes during the test."""
    stream = StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", stream)
    return stream
