"""Lets a lender look a person up: what institutions say now, and the register's data for those that do not answer."""

from time import monotonic
from typing import Any

from gjeldsbro.adapters import aws
from gjeldsbro.api.operations import Operation
from gjeldsbro.api.requests import Request
from gjeldsbro.api.resolver import Api
from gjeldsbro.domain.search_messages import SearchResponse, parse_search
from gjeldsbro.log import LambdaContext, logger
from gjeldsbro.lookup_wiring import LookupSettings, debt_lookup
from gjeldsbro.wiring import front_door

api = Api(door=front_door)
aws.build_at_init(aws.dynamodb, aws.secretsmanager, aws.kms, aws.events)

SEARCH = Operation(
    "Look a person up",
    request="gjeldsbro.domain.search_messages:SearchRequest",
    answers={200: "gjeldsbro.domain.search_messages:SearchResponse", 204: None},
)


@api.post("/debt-search/v1/search", SEARCH)
def search_debt(request: Request) -> dict[str, Any] | None:
    """Find out what a person owes now, as a registered lender and for a purpose that the law knows.

    The institutions where the person has debt are asked while you wait. For those that do not answer in time you get
    what is stored, and the answer says so for each creditor. The answer 204 means that we know of no debt. No creditor
    and no co-borrower is named. Every lookup is recorded, and the person is told of it.
    """
    started = monotonic()
    settings = LookupSettings.load()
    asked = parse_search(request.json_body(), accepts=settings.identity_numbers)
    found = debt_lookup(settings).look_up(
        asked,
        request.caller.organisation,
        lookup_id=request.uuid,
        now=request.received,
        deadline=started + settings.max_lookup_seconds,
    )
    disclosed = [found, *found.co_borrowers] if isinstance(found, SearchResponse) else []
    logger.info(
        "LOOKUP_ANSWERED",
        extra={
            "persons": len(asked.persons),
            "answered": sum(person.number_of_creditors_answered for person in disclosed),
            "missing": sum(person.number_ofcreditors_missing for person in disclosed),
            "milliseconds": round((monotonic() - started) * 1000),
        },
    )
    return found.model_dump(mode="json") if isinstance(found, SearchResponse) else None


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway request."""
    return api.handle(event, context)
