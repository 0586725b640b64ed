"""Requests made from the API's description, right and wrong ones, and what must hold of every answer (schemathesis)."""

import json
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig

from gjeldsbro_openapi.document import DOCUMENT

METHODS = ["get", "put", "post", "delete", "options", "patch"]
"""Those that API Gateway passes on and schemathesis knows."""


def described_api(*, examples: int) -> Any:
    """The committed document, from which the same requests are made in each run: ``examples`` random ones of a kind.

    Besides them come the boundaries of all values, missing and wrong parts, methods that a path does not have, and the
    document's own examples. ``positive_data_acceptance`` is off, because no schema can say what a check digit is or who
    is registered: ``tests/integration/test_described_api.py`` has a test that puts such values in.
    """
    config = SchemathesisConfig.from_dict(
        {
            "seed": 46,
            "generation": {"max-examples": examples, "deterministic": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"enabled": False}},
            "phases": {"coverage": {"unexpected-methods": METHODS}, "stateful": {"enabled": False}},
        }
    )
    return schemathesis.openapi.from_dict(json.loads(DOCUMENT.read_text(encoding="utf-8")), config=config)
