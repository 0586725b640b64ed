"""Lists tonight's datasets and writes the manifest that the state machine's Map reads."""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from gjeldsbro.domain.timestamps import normalise
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.night.common import FLOW, Clock, manifest_key
from gjeldsbro.services.night.ports import NightRecords, Objects
from gjeldsbro.services.ports import Institution

GROUP_SIZE = 50
"""Datasets in one item of the Map, but for an institution that has more: its execution's history has room for 25,000
events (``tests/unit/test_night_history.py`` counts them)."""

_RUN = re.compile(r"[A-Za-z0-9._-]{1,80}")


def plan_night(
    run: str,
    started_at: str,
    request: dict[str, Any],
    *,
    records: NightRecords,
    objects: Objects,
    clock: Clock,
) -> dict[str, Any]:
    """Write the manifest of a run and return where it is.

    ``request`` may name one ``institution``, switch the ``hold`` off (a release), and have the loads trust nothing that
    was stored of earlier ones (``fromScratch``). Institutions that are fetched from
    the same server come in one item of the manifest, so that the load on a server is bounded (design decision 13). An
    ended provider's dataset, and all of an ended institution, are planned to be withdrawn.
    """
    if not _RUN.fullmatch(run):
        raise ConfigurationError("a run's name has up to 80 letters, digits, dots, hyphens and underscores")
    hold = request.get("hold", True)
    wanted = request.get("institution")
    scratch = request.get("fromScratch", False)
    if not isinstance(hold, bool) or not isinstance(scratch, bool):
        raise ConfigurationError("hold and fromScratch are true or false")
    institutions = records.institutions()
    if wanted is not None:
        institutions = [institution for institution in institutions if institution.institution == wanted]
        if not institutions:
            raise ConfigurationError("there is no such institution")
    plans = {
        institution.institution: _plan(run, institution, hold=hold, scratch=scratch) for institution in institutions
    }
    groups = [
        {"run": run, "institutions": [plans[institution.institution] for institution in group]}
        for together in _by_server(
            institution for institution in institutions if plans[institution.institution]["datasets"]
        )
        for group in _cut(together, plans)
    ]
    objects.put_json(manifest_key(run), groups)
    count = sum(len(group["institutions"]) for group in groups)
    values = {"state": "running", "startedAt": normalise(started_at), "institutions": count, "hold": hold}
    values["whole"] = wanted is None
    if wanted is not None:
        values["institution"] = wanted
    records.put_run(FLOW, run, values, clock())
    return {"run": run, "bucket": objects.bucket, "manifestKey": manifest_key(run), "institutions": count}


def _plan(run: str, institution: Institution, *, hold: bool, scratch: bool) -> dict[str, Any]:
    datasets = []
    for provider in institution.providers:
        withdrawn = provider.ended or institution.ended
        if withdrawn or provider.delivers_datasets:
            datasets.append(
                {
                    "run": run,
                    "institution": institution.institution,
                    "provider": provider.provider,
                    "action": "withdraw" if withdrawn else "fetch",
                    **({"fromScratch": True} if scratch else {}),
                },
            )
    return {"run": run, "institution": institution.institution, "hold": hold, "datasets": datasets}


def _cut(together: list[Institution], plans: dict[str, dict[str, Any]]) -> Iterator[list[Institution]]:
    """Institutions in groups of GROUP_SIZE datasets at most."""
    group: list[Institution] = []
    size = 0
    for institution in together:
        datasets = len(plans[institution.institution]["datasets"])
        if group and size + datasets > GROUP_SIZE:
            yield group
            group, size = [], 0
        group.append(institution)
        size += datasets
    if group:
        yield group


def _by_server(institutions: Iterable[Institution]) -> list[list[Institution]]:
    """Institutions in groups that have no server in common."""
    groups: list[tuple[set[str], list[Institution]]] = []
    for institution in institutions:
        servers = _servers(institution)
        joined = [institution]
        apart = []
        for group_servers, members in groups:
            if group_servers & servers:
                servers |= group_servers
                joined = members + joined
            else:
                apart.append((group_servers, members))
        groups = [*apart, (servers, joined)]
    return [members for _, members in groups]


def _servers(institution: Institution) -> set[str]:
    if institution.ended:
        return set()
    return {
        urlsplit(url).netloc.lower()
        for provider in institution.providers
        if not provider.ended and (url := provider.dataset_url or provider.url) is not None
    }
