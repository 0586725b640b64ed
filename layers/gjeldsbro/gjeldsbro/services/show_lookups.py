"""Who looked one person up, for an authorised operator: the person has a right to know (GDPR article 15).

The creditors' names are for the person, who knows them; no lender is told any. Whoever looks leaves a trail first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Protocol

from gjeldsbro.domain.customer_keys import HashKeys
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.timestamps import shorten
from gjeldsbro.services.lookup_records import LookupRecord
from gjeldsbro.services.ports import Institution, Lender
from gjeldsbro.services.trail import Trail, note_a_look


class NamingPartners(Trail, Protocol):
    """Who lenders and institutions are, and the trail."""

    def lenders(self) -> list[Lender]:
        """All lenders."""
        ...

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included."""
        ...


class RecordedLookups(Protocol):
    """The record of lookups."""

    def of(self, customer: str, now: datetime) -> list[LookupRecord]:
        """All lookups under one of a person's partition keys that are still kept, the newest first."""
        ...


@dataclass(frozen=True)
class ShowLookups:
    """Shows an operator who looked one person up."""

    partners: NamingPartners
    history: RecordedLookups
    hash_keys: HashKeys
    accepts: Accepts

    def show(self, customer_id: str, *, operator: str, reason: str | None, now: datetime) -> dict[str, Any]:
        """``{"lookups": [...]}``, the newest first.

        Each: ``at``, ``lookupID``, ``lender``, ``lenderName`` (null when it is registered no longer), ``onBehalfOf``
        (null when for itself), ``referenceID``, ``purpose``, ``role`` and ``creditors`` (``institution``, ``name``,
        ``answered``, ``source``). Raises InvalidMessageError when operator, reason or number is not given in its form;
        then nothing was looked at.
        """
        note_a_look(
            customer_id,
            trail=self.partners,
            hash_keys=self.hash_keys,
            accepts=self.accepts,
            action="lookups",
            operator=operator,
            reason=reason,
            now=now,
        )
        lenders = {lender.lender: lender.name for lender in self.partners.lenders()}
        institutions = {institution.institution: institution.name for institution in self.partners.institutions()}
        # Under retired keys too: a record outlives the key that it was made with.
        under_keys = [self.history.of(key.partition_of(customer_id), now) for key in self.hash_keys.keys]
        found = sorted(chain.from_iterable(under_keys), key=lambda record: record.at, reverse=True)
        return {"lookups": [_shown(record, lenders, institutions) for record in found]}


def _shown(record: LookupRecord, lenders: Mapping[str, str], institutions: Mapping[str, str]) -> dict[str, Any]:
    return {
        "at": shorten(record.at),
        "lookupID": record.lookup_id,
        "lender": record.lender,
        "lenderName": lenders.get(record.lender),
        "onBehalfOf": record.on_behalf_of,
        "referenceID": record.reference,
        "purpose": record.purpose,
        "role": record.role,
        "creditors": [
            {
                "institution": creditor.institution,
                "name": institutions.get(creditor.institution),
                "answered": creditor.answered,
                "source": creditor.source,
            }
            for creditor in record.creditors
        ],
    }
