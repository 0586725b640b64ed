"""The connection check: what an institution or a lender can see of itself, over the connection that it will use.

Whoever sets up a connection wants to know whether its certificate says what it should, and later whether its data
arrives. It is told of its own registrations and deliveries, and of nobody else's.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from gjeldsbro.domain.callers import Caller
from gjeldsbro.domain.timestamps import from_datetime, shorten
from gjeldsbro.errors import NotEntitledError
from gjeldsbro.services.ports import Dataset, Institution, Lender, Provider

_TELLS_WHY = frozenset({"refused", "held"})
_INSTITUTIONS_FAULT = "InstitutionUnavailableError"
_OUR_FAULT = "it could not be taken in, and the fault may be ours: ask us"


class ConnectionPartners(Protocol):
    """What a connection check needs of the PartnerTable."""

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included, by id."""
        ...

    def lenders(self) -> list[Lender]:
        """All lenders."""
        ...

    def dataset(self, institution: str, provider: str) -> Dataset:
        """What is known of a dataset; an empty one when nothing is."""
        ...

    def last_push(self, institution: str, provider: str) -> str | None:
        """When a provider last pushed for an institution (fixed form), or None."""
        ...


@dataclass(frozen=True)
class ConnectionCheck:
    """Tells a caller who it is to us and what has become of its data."""

    partners: ConnectionPartners

    def check(self, caller: Caller) -> dict[str, Any]:
        """The answer but for its receipt: see ``domain.connection_messages.ConnectionResponse``.

        Raises NotEntitledError, which names the organisation that was read from the certificate, when it is registered
        neither as a provider nor as a lender.
        """
        own = [
            (institution, provider)
            for institution in self.partners.institutions()
            for provider in sorted(institution.providers, key=lambda provider: provider.provider)
            if provider.is_named_by(caller.organisation)
        ]
        lender = next((one for one in self.partners.lenders() if one.is_named_by(caller.organisation)), None)
        if not own and lender is None:
            raise NotEntitledError(
                f"the client certificate names {caller.organisation}, which is registered neither as a provider nor as "
                "a lender"
            )
        return {
            "organisation": caller.organisation,
            "certificate": {
                "serialNumber": f"{caller.serial:X}",
                "validUntil": shorten(from_datetime(caller.not_after)),
            },
            "lender": None if lender is None else _lender(lender),
            "institutions": [self._institution(institution, provider) for institution, provider in own],
        }

    def _institution(self, institution: Institution, provider: Provider) -> dict[str, Any]:
        last_push = self.partners.last_push(institution.institution, provider.provider)
        dataset = self.partners.dataset(institution.institution, provider.provider)
        return {
            "financialInstitutionID": institution.institution,
            "name": institution.name,
            "providerID": provider.provider,
            "mayPush": institution.may_report(provider.provider),
            "lookup": institution.lookup,
            "lastPush": None if last_push is None else shorten(last_push),
            "dataset": _dataset(dataset, provider) if _has_datasets(dataset, provider) else None,
        }


def _lender(lender: Lender) -> dict[str, Any]:
    return {
        "lenderID": lender.lender,
        "name": lender.name,
        "onBehalfOf": list(lender.on_behalf_of),
        "purposes": list(lender.purposes),
    }


def _has_datasets(dataset: Dataset, provider: Provider) -> bool:
    return provider.delivers_datasets or dataset.last_run is not None or dataset.fetch_start is not None


def _dataset(dataset: Dataset, provider: Provider) -> dict[str, Any]:
    return {
        "kind": provider.dataset,
        "lastAccepted": None if dataset.fetch_start is None else shorten(dataset.fetch_start),
        "lastRun": None if dataset.last_run is None else _last_run(dataset.last_run),
    }


def _last_run(run: dict[str, Any]) -> dict[str, Any]:
    """What a night made of a dataset. Reasons that name parts of ours stay inside."""
    reason = None
    if run["status"] in _TELLS_WHY or run.get("error") == _INSTITUTIONS_FAULT:
        reason = run["reason"]
    elif run["status"] == "failed":
        reason = _OUR_FAULT
    return {
        "status": run["status"],
        "at": shorten(run["at"]),
        "reason": reason,
        "violations": [{"place": one["place"], "rule": one["rule"]} for one in run.get("violations", ())],
        "totalViolations": run.get("totalViolations", 0),
    }
