"""Value types that use cases and adapters share: institutions, lenders, receivers and datasets in the PartnerTable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from gjeldsbro.domain.identity_numbers import organisation_identifiers

LookupMode = Literal["live", "stored", "both"]
"""How a lookup gets an institution's data (SPEC appendix B).

``stored``: from the register, the institution is not asked (use case 1). ``live``: from the institution, the register
is at most an index of whom to ask for (use case 2, and 3 without data), but for providers that cannot be asked.
``both``: from the institution, and from the register when it does not answer in time (use case 3).
"""

DatasetKind = Literal["loans", "ssn"]
"""What the night fetches of a provider: all loans (SPEC 4.2), or only whose customers they are (SPEC 4.5)."""


@dataclass(frozen=True)
class Provider:
    """Who delivers an institution's data. Without ``url`` and ``dataset_url`` it only pushes.

    ``ended`` marks a provider that was dropped from the institution: it may no longer push and is no longer fetched,
    but its data stays visible until the first accepted dataset of a successor (design decision 6). ``certificates``
    are organizationIdentifiers that its client certificate may name beside those that follow from its providerID: a
    foreign one may name an authorisation (``PSDSE-FINA-44059``) instead of an organisation number. ``since`` (fixed
    form, see domain.timestamps) is when an operator first named it; None of those from before that was kept.
    """

    provider: str
    url: str | None = None
    dataset_url: str | None = None
    ca: str | None = None
    ended: bool = False
    dataset: DatasetKind = "loans"
    certificates: tuple[str, ...] = ()
    since: str | None = None

    @property
    def can_be_asked(self) -> bool:
        """Whether one customer's loans can be asked for (SPEC 3.1.2): that takes its base address."""
        return self.url is not None and not self.ended

    def is_named_by(self, organisation: str) -> bool:
        """Whether a certificate that names ``organisation`` is this provider's (SPEC 4.2.1)."""
        return organisation in self.certificates or organisation in organisation_identifiers(self.provider)

    @property
    def delivers_datasets(self) -> bool:
        """Whether complete datasets are fetched from it."""
        return self.url is not None or self.dataset_url is not None


@dataclass(frozen=True)
class Institution:
    """A financial institution (SPEC financialInstitutionID) and its providers."""

    institution: str
    name: str
    max_shrink_percent: int = 30
    providers: tuple[Provider, ...] = ()
    ended: bool = False
    lookup: LookupMode = "both"

    def provider(self, provider: str) -> Provider | None:
        """The provider with that providerID, ended or not."""
        return next((candidate for candidate in self.providers if candidate.provider == provider), None)

    def may_report(self, provider: str) -> bool:
        """Whether that provider may report this institution's loans now."""
        found = self.provider(provider)
        return found is not None and not found.ended and not self.ended


@dataclass(frozen=True)
class Lender:
    """An organisation that may look people up, for itself and ``on_behalf_of`` others, for certain ``purposes``.

    ``lender`` is its organisation number, or as of a foreign institution; ``certificates`` as of a provider.
    """

    lender: str
    name: str
    on_behalf_of: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()

    def is_named_by(self, organisation: str) -> bool:
        """Whether a certificate that names ``organisation`` is this lender's."""
        return organisation in self.certificates or organisation in organisation_identifiers(self.lender)


@dataclass(frozen=True)
class Receiver:
    """An institution that gets quarterly packages, and its SFTP server.

    ``since``: when each organisation of ``on_behalf_of`` was first named (fixed form), as far as that was kept.
    """

    receiver: str
    name: str
    on_behalf_of: tuple[str, ...]
    url: str
    host_keys: tuple[str, ...]
    secret: str
    read_back: bool = True
    since: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Lease:
    """The right of one run to work on a dataset until a point in time (fixed form, see domain.timestamps).

    ``token`` is that of the invocation at work, None between two of them. ``contested`` is until when an earlier
    invocation of the run, which never said that it has ended, may still write to the register (services.night.leases).
    """

    run: str
    until: str
    token: str | None = None
    contested: str | None = None


@dataclass(frozen=True)
class Dataset:
    """What is known of one provider's dataset of one institution.

    ``as_of``, ``fetch_start``, ``run``, ``index``, ``key_version`` and ``customers`` (with loans) describe the dataset
    that the register shows; they are None until the first one was accepted. ``pending`` is the S3 key of the customer
    keys that an unfinished load was about to change. ``fetch`` is the cursor of a fetch in progress, ``last_run`` the
    outcome of the last run.

    ``index`` and ``pending`` hold customer keys of ``key_version``. While the dataset moves to another version of the
    hash key, ``rekey`` is {version, pending} of an unfinished load under that; and ``retired`` are {version, file,
    position}: customer keys of earlier versions, whose items say nothing any more and are still to be deleted from that
    row on.
    """

    institution: str
    provider: str
    as_of: str | None = None
    fetch_start: str | None = None
    run: str | None = None
    index: str | None = None
    key_version: str | None = None
    customers: int = 0
    pending: str | None = None
    rekey: dict[str, Any] | None = None
    retired: list[dict[str, Any]] | None = None
    full_at: str | None = None
    held: bool = False
    lease: Lease | None = None
    fetch: dict[str, Any] | None = None
    last_run: dict[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RevocationList:
    """An authority's list of revoked certificates that an operator configured, and what was read of it.

    ``issuer`` stands for the authority as in a Caller; ``certificate`` (PEM) is what its lists are signed with.
    ``this_update``, ``next_update``, ``digest`` and ``count`` describe the list in use and are None until one was read;
    ``read_at`` is when the server last gave a good one, ``checked_at`` the last try, ``problem`` what was wrong then.
    """

    issuer: str
    name: str
    url: str
    certificate: str
    this_update: datetime | None = None
    next_update: datetime | None = None
    read_at: datetime | None = None
    checked_at: datetime | None = None
    problem: str | None = None
    digest: str | None = None
    count: int | None = None


class Credential(NamedTuple):
    """A certificate, key or password that cannot be looked at any more, as an operator's command saw it.

    ``subject`` names it for people. It is good ``until`` a point in time, as far as somebody said so; ``since`` is when
    it was first handed over. Both are in the fixed form.
    """

    subject: str
    since: str
    until: str | None = None
    fingerprint: str | None = None


class DatasetTime(NamedTuple):
    """``asOf`` of one provider's dataset of one institution, None until one was accepted, and its ``keyVersion``."""

    institution: str
    provider: str
    as_of: str | None
    key_version: str | None = None
