"""``/admin``: steer a running simulator.

====== ================================== ======================================================================
GET    /admin/institutions                how each dataset is served
PATCH  /admin/institutions/{id}           change that: a JSON object with fields of ServedDataset
PUT    /admin/institutions/{id}/fault     misbehave: a JSON object with fields of Fault
DELETE /admin/institutions/{id}/fault     behave again
POST   /admin/night                       the population of a later night: ``{"night": 2, "percent": 1}``
POST   /admin/reset                       back to the manners of the start
GET    /admin/requests                    the requests that were answered
====== ================================== ======================================================================

``?provider=`` chooses one of an institution's providers.
"""

import json
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from pydantic import ValidationError

from gjeldsbro_population.population import Population
from gjeldsbro_simulator.answers import Answer, Request, SpecError
from gjeldsbro_simulator.faults import Fault
from gjeldsbro_simulator.world import World


def administer(world: World, segments: list[str], request: Request) -> Answer:
    """Answer a request under ``/admin``; raises SpecError for what it does not understand."""
    provider = parse_qs(request.query).get("provider", [None])[-1]
    try:
        return Answer.of(_outcome(world, segments, request, provider))
    except KeyError as exc:
        raise SpecError(404, "No such institution") from exc
    except ValidationError as exc:
        places = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors())
        raise SpecError(400, places) from exc


def _outcome(world: World, segments: list[str], request: Request, provider: str | None) -> Any:
    outcome: Any = {}
    match [request.method, *segments]:
        case ["GET", "institutions"]:
            outcome = [dataset.model_dump() for dataset in world.datasets()]
        case ["PATCH", "institutions", institution]:
            outcome = world.configure(institution, provider, **_document(request)).model_dump()
        case ["PUT", "institutions", institution, "fault"]:
            world.misbehave(institution, Fault.model_validate(_document(request)), provider)
        case ["DELETE", "institutions", institution, "fault"]:
            world.configure(institution, provider, fault=None)
        case ["POST", "night"]:
            outcome = _night(world, _document(request))
        case ["POST", "reset"]:
            world.reset()
        case ["GET", "requests"]:
            outcome = [served._asdict() for served in world.requests]
        case _:
            raise SpecError(404, "Unknown path")
    return outcome


def _night(world: World, document: dict[str, Any]) -> dict[str, Any]:
    source = world.source
    if not isinstance(source, Population):
        raise SpecError(400, "Only a population has a next night")
    night, percent, moment = document.get("night"), document.get("percent", 1), document.get("extractedAt")
    if not isinstance(night, int) or night <= source.night or not isinstance(percent, int | float):
        raise SpecError(400, "night must be a later night, percent a number")
    try:
        extracted_at = datetime.fromisoformat(moment) if moment else None
    except (TypeError, ValueError) as exc:
        raise SpecError(400, "extractedAt is not an ISO 8601 time") from exc
    later = source.changed(night, percent, extracted_at=extracted_at)
    world.serve(later)
    changes = [
        {"institution": institution, "provider": provider, "added": c.added, "changed": c.changed, "removed": c.removed}
        for (institution, provider), c in later.changes.items()
    ]
    return {"night": night, "changes": changes}


def _document(request: Request) -> dict[str, Any]:
    try:
        document = json.loads(request.body)
    except ValueError as exc:
        raise SpecError(400, "The body is not JSON") from exc
    if not isinstance(document, dict):
        raise SpecError(400, "The body is not a JSON object")
    return document
