"""What the API's description says of a route, beside its function's name and docstring."""

from collections.abc import Mapping
from typing import NamedTuple


class Operation(NamedTuple):
    """The description of one route, from which the OpenAPI document is made (``make docs``).

    Models are named as ``module:Class``, so that a cold start imports none for the sake of the description. ``answers``
    are those of success: the model of the body for each status, None for no body. What goes wrong has one model and
    follows from the API itself (``api.errors``).
    """

    summary: str
    answers: Mapping[int, str | None]
    request: str | None = None
