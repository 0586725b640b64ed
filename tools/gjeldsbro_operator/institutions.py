"""``gjeldsbro institution``."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.circuit_breaker import BreakerState
from gjeldsbro.services.ports import Dataset, Institution, Provider
from gjeldsbro_operator import nightly
from gjeldsbro_operator.files import read_institution
from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.stack import Stack


def put(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Onboard or change an institution.

    A provider that the file no longer names is kept as ended, so that its data stays visible until its successor's
    first accepted dataset.
    """
    described = read_institution(arguments.file, local=stack.local)
    _refuse_stranded_datasets(described, stack.partners.datasets(described.institution))
    before = stack.partners.institution(described.institution)
    merged = _since(described if before is None else _with_ended_providers(described, before), before)
    state = "unchanged" if merged == before else "created" if before is None else "changed"
    if state != "unchanged":
        stack.record("institution put", f"institution {merged.institution}", arguments.reason)
        stack.partners.put_institution(merged)
    return Result(
        {**_value(merged), "state": state},
        lines=[f"{merged.institution} {merged.name}: {state}", *(f"  {_provider(p)}" for p in merged.providers)],
    )


def _with_ended_providers(described: Institution, before: Institution) -> Institution:
    named = {provider.provider for provider in described.providers}
    dropped = tuple(replace(provider, ended=True) for provider in before.providers if provider.provider not in named)
    return replace(described, providers=described.providers + dropped)


def _since(described: Institution, before: Institution | None) -> Institution:
    """With the time at which each provider was first named, or was named again."""
    known = {} if before is None else {one.provider: one.since for one in before.providers if not one.ended}
    now = from_datetime(datetime.now(UTC))
    providers = (one if one.ended else replace(one, since=known.get(one.provider, now)) for one in described.providers)
    return replace(described, providers=tuple(providers))


def _refuse_stranded_datasets(described: Institution, datasets: list[Dataset]) -> None:
    """A provider that only pushes from now on would leave its last dataset in the register for ever."""
    shown = {dataset.provider for dataset in datasets if dataset.as_of is not None}
    for provider in described.providers:
        if provider.provider in shown and not provider.delivers_datasets:
            raise ConfigurationError(
                f"{provider.provider} has delivered datasets, which only a dataset can replace: give it a url, "
                "or let it push under another providerID (SPEC appendix E: 9990:)",
            )


def show_all(stack: Stack, _: argparse.Namespace) -> Result:
    """List the institutions with what the register shows of them, and who is not asked now because it keeps failing."""
    institutions = stack.partners.institutions()
    datasets = stack.partners.datasets()
    paused = {(state.institution, state.provider): state for state in stack.breaker.states() if state.until is not None}
    rows = [
        (
            institution.institution,
            institution.name,
            "ended" if institution.ended else "active",
            institution.lookup,
            f"{institution.max_shrink_percent} %",
            [
                _asked(provider, paused.get((institution.institution, provider.provider)))
                for provider in institution.providers
            ],
            [_dataset(dataset) for dataset in datasets if dataset.institution == institution.institution],
        )
        for institution in institutions
    ]
    return Result(
        {"institutions": [_value(institution, datasets, paused) for institution in institutions]},
        [Shown("Institutions", ("Id", "Name", "State", "Lookup", "Max shrink", "Providers", "Datasets"), rows)],
    )


def remove(stack: Stack, arguments: argparse.Namespace) -> Result:
    """End an institution: no more pushes or fetches, and a run that withdraws its data."""
    institution = stack.partners.institution(arguments.id)
    if institution is None:
        raise ConfigurationError(f"there is no institution {arguments.id}")
    stack.record("institution remove", f"institution {arguments.id}", arguments.reason)
    stack.partners.put_institution(replace(institution, ended=True))
    return nightly.run_for(stack, arguments, {"institution": arguments.id})


def _provider(provider: Provider) -> str:
    if provider.ended:
        return f"{provider.provider}: ended"
    if not provider.delivers_datasets:
        return f"{provider.provider}: push only"
    marks = ["customers only"] * (provider.dataset == "ssn") + ["own CA"] * (provider.ca is not None)
    return f"{provider.provider}: {provider.dataset_url or provider.url}{f' ({", ".join(marks)})' if marks else ''}"


def _asked(provider: Provider, paused: BreakerState | None) -> str:
    if paused is None:
        return _provider(provider)
    since, until = moment(paused.since), moment(paused.until)
    return f"{_provider(provider)}\n  not asked since {since} ({paused.failures} failures), tried again from {until}"


def _dataset(dataset: Dataset) -> str:
    if dataset.as_of is None:
        return f"{dataset.provider}: none yet"
    held = ", held" if dataset.held else ""
    return f"{dataset.provider}: {dataset.customers} customers as of {moment(dataset.as_of)}{held}"


def _value(
    institution: Institution,
    datasets: Sequence[Dataset] = (),
    paused: Mapping[tuple[str, str], BreakerState] = MappingProxyType({}),
) -> dict[str, Any]:
    known = {dataset.provider: dataset for dataset in datasets if dataset.institution == institution.institution}
    return {
        "financialInstitutionID": institution.institution,
        "name": institution.name,
        "maxShrinkPercent": institution.max_shrink_percent,
        "ended": institution.ended,
        "lookup": institution.lookup,
        "providers": [
            {
                "providerID": provider.provider,
                "url": provider.url,
                "datasetUrl": provider.dataset_url,
                "privateCa": provider.ca is not None,
                "dataset": provider.dataset,
                "certificates": list(provider.certificates),
                "ended": provider.ended,
            }
            | _dataset_value(known.get(provider.provider))
            | _paused_value(paused.get((institution.institution, provider.provider)))
            for provider in institution.providers
        ],
    }


def _dataset_value(dataset: Dataset | None) -> dict[str, Any]:
    if dataset is None:
        return {}
    return {"asOf": dataset.as_of, "customers": dataset.customers, "held": dataset.held}


def _paused_value(paused: BreakerState | None) -> dict[str, Any]:
    if paused is None:
        return {}
    return {"notAsked": {"since": paused.since, "triedAgainFrom": paused.until, "failures": paused.failures}}
