"""What each status of an error means to a caller, and who answers with it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gjeldsbro.api.errors import STATUSES

INTERNAL = 500
"""Every error that has no status of its own."""

NEEDS_A_BODY = frozenset({400, 415})
"""What only requests with a body are answered with."""

_GATEWAY_STATUSES = {
    "INTEGRATION_FAILURE": (504,),
    "INTEGRATION_TIMEOUT": (504,),
    "DEFAULT_4XX": (400, 403),
    "DEFAULT_5XX": (500, 502),
}
"""What API Gateway answers where the template sets no status; 502 is its word for a function that fails."""


class Meaning(NamedTuple):
    """What a status says, and what to do about it."""

    name: str
    means: str
    to_do: str


MEANINGS: Mapping[int, Meaning] = {
    400: Meaning(
        "Bad request",
        "The body breaks a rule. `errorMessage` names up to 20 places (JSON pointers) and rules, then how many more "
        "there are; it never repeats a value.",
        "Mend the message, then send it again.",
    ),
    401: Meaning(
        "Unauthorized",
        "Your client certificate names no organisation, is not one for this use, or was revoked.",
        "Use a valid certificate of your organisation.",
    ),
    403: Meaning(
        "Forbidden",
        "We know who you are, but you are not registered for this. `errorMessage` says for what.",
        "Check the certificate and the ids that you send; then ask us.",
    ),
    404: Meaning("Not found", "There is nothing at this path.", "Check the address."),
    405: Meaning("Method not allowed", "The path is right, the method is not.", "Use a method that `Allow` names."),
    413: Meaning("Content too large", "The message is over 1 MiB or holds too much.", "Send several smaller messages."),
    415: Meaning(
        "Unsupported media type",
        "The body is not declared as `application/json`, is not in UTF-8, or is compressed.",
        "Mend the message, then send it again.",
    ),
    429: Meaning("Too many requests", "You, or all callers together, send too fast.", "Wait as `Retry-After` says."),
    500: Meaning("Internal server error", "The fault is ours.", "Send the same message again later."),
    502: Meaning("Bad gateway", "The fault is ours.", "Send the same message again later."),
    503: Meaning(
        "Service unavailable",
        "Something that we need is not available for a moment.",
        "Send the same message again after `Retry-After` seconds.",
    ),
    504: Meaning("Gateway timeout", "The answer took too long.", "Send the same message again."),
}


def own_statuses() -> set[int]:
    """The statuses of errors that our functions answer with."""
    return {status for _, status in STATUSES} | {INTERNAL}


def gateway_answers(responses: Mapping[str, Any]) -> dict[int, set[str]]:
    """What API Gateway answers by itself, by the template's GatewayResponses: the headers of each status."""
    found: dict[int, set[str]] = {}
    for kind, response in responses.items():
        headers = set(response.get("ResponseParameters", {}).get("Headers", {}))
        statuses = (int(response["StatusCode"]),) if "StatusCode" in response else _GATEWAY_STATUSES[kind]
        for status in statuses:
            found.setdefault(status, set()).update(headers)
    return found
