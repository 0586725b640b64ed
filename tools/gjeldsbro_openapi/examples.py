"""Examples of answers; a test holds them to the models. Those of requests are the functions' sample events."""

from collections.abc import Mapping
from typing import Any

_UUID = "5d0e9f3c-1d57-4b8f-9d2c-6f5a0c9e7b11"
_RECEIPT = {"timestamp": "2026-11-22T06:30:01.234Z", "uuid": _UUID}
_AT_THE_GATEWAY = {"timestamp": "22/Nov/2026:06:30:01 +0000", "uuid": _UUID}
_BROKEN_RULE = {
    "place": "page 0 /customers/17/loans/0/balance",
    "rule": "must be a JSON integer or a string of 1 to 12 digits, not negative (SPEC 4.1, N12)",
}

EXAMPLES: Mapping[tuple[str, int], Any] = {
    ("receiveLoans", 200): _RECEIPT,
    ("checkConnection", 200): {
        **_RECEIPT,
        "organisation": "NTRNO-920013015",
        "certificate": {"serialNumber": "1F2E3D4C5B6A7988", "validUntil": "2028-05-31T12:00:00Z"},
        "lender": None,
        "institutions": [
            {
                "financialInstitutionID": "920013015",
                "name": "Testbanken AS",
                "providerID": "9908:920013015",
                "mayPush": True,
                "lookup": "both",
                "lastPush": "2026-11-21T14:03:44.12Z",
                "dataset": {
                    "kind": "loans",
                    "lastAccepted": "2026-11-21T05:00:03.4Z",
                    "lastRun": {
                        "status": "refused",
                        "at": "2026-11-22T05:00:09.1Z",
                        "reason": f"{_BROKEN_RULE['place']}: {_BROKEN_RULE['rule']}",
                        "violations": [_BROKEN_RULE],
                        "totalViolations": 1,
                    },
                },
            },
        ],
    },
    ("searchDebt", 200): {
        **_RECEIPT,
        "referenceID": "application 2026-117",
        "ssn": "17912099997",
        "loans": [
            {
                "source": "institution",
                "loan": {
                    "type": "creditFacility",
                    "timestamp": _RECEIPT["timestamp"],
                    "accountID": "018274650192837465019283",
                    "creditLimit": "5000000",
                    "interestBearingBalance": "0",
                    "nonInterestBearingBalance": "125000",
                    "nominalInterestRate": "2160",
                    "installmentCharges": "0",
                    "installmentChargePeriod": "MONTHLY",
                    "coBorrower": "0",
                },
            },
            {"source": "none", "loan": None},
        ],
        "creditors": [
            {"answered": True, "source": "institution", "numberOfLoans": 1},
            {"answered": False, "source": "none", "numberOfLoans": 0},
        ],
        "numberOfCreditorsAnswered": 1,
        "numberOfcreditorsMissing": 1,
    },
}
"""By operation and status."""

_MESSAGES = {
    400: "/customers/0/loans/1/balance: must be a JSON integer or a string of 1 to 12 digits, not negative "
    "(SPEC 4.1, N12)",
    401: "the client certificate names no organisation (organizationIdentifier NTRNO-...)",
    403: "/providerID: is not the organisation in the client certificate (SPEC 4.2.1)",
    404: "there is nothing at this path",
    405: "the method must be POST",
    413: "a body has at most 1048576 bytes",
    415: "Content-Type must be application/json (SPEC 3.1.3)",
    429: "too many requests: send again in 7 seconds",
    500: "internal error; send the message again later",
    502: "The fault is ours: send again",
    503: "temporarily unavailable; send again",
    504: "It took too long: send again",
}


def error_example(status: int, *, own: bool) -> dict[str, str]:
    """An error as one of our functions gives it, or as API Gateway does."""
    return {
        "errorMessage": _MESSAGES.get(status, "The request cannot be answered"),
        **(_RECEIPT if own else _AT_THE_GATEWAY),
    }
