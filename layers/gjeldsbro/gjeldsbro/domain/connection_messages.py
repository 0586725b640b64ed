"""The answer of the connection check as pydantic models, from which the API's description is made."""

from typing import Annotated, Literal

from pydantic import Field

from gjeldsbro.domain.messages import InstitutionId, ProviderId, Received, Response, SpecModel


class ClientCertificate(SpecModel):
    """The client certificate of this request."""

    serial_number: Annotated[str, Field(pattern="^[0-9A-F]+$")] = Field(
        description="Its serial number in hexadecimal digits, as `openssl x509 -serial` shows it."
    )
    valid_until: Received = Field(description="When it expires. Its successor may be used beside it.")


class LenderEntry(SpecModel):
    """What the caller may look up."""

    lender_id: InstitutionId = Field(description="The lender that the certificate belongs to.")
    name: str = Field(description="Its name, as registered.")
    on_behalf_of: list[InstitutionId] = Field(description="The organisations that it may look up for, beside itself.")
    purposes: list[str] = Field(description="What it may look people up for.")


class BrokenRule(SpecModel):
    """A rule that a dataset broke."""

    place: str = Field(description="Where: the page, and a JSON pointer into it.")
    rule: str = Field(description="What should have been there. The value itself is never shown.")


class DatasetRun(SpecModel):
    """What became of a dataset."""

    status: Literal["loaded", "unchanged", "refused", "held", "busy", "failed"] = Field(
        description=(
            "loaded, unchanged: in use. refused: it broke a rule. held: it shrank by more than the agreed limit. "
            "failed: it could not be fetched. Unless it is in use, the last accepted dataset still is."
        )
    )
    at: Received = Field(description="When that was decided.")
    reason: str | None = Field(description="Why it is not in use; null when it is.")
    violations: list[BrokenRule] = Field(description="The first 20 of the rules that it broke, and where.")
    total_violations: int = Field(ge=0, description="How many there are in all.")


class DatasetEntry(SpecModel):
    """What we know of the datasets that we fetch."""

    kind: Literal["loans", "ssn"] = Field(description="loans: all loans (SPEC 4.2). ssn: whose customers (SPEC 4.5).")
    last_accepted: Received | None = Field(description="When we began to fetch the dataset that is in use.")
    last_run: DatasetRun | None = Field(description="The last time that we fetched, or tried to.")


class InstitutionEntry(SpecModel):
    """An institution that the caller is registered for."""

    financial_institution_id: InstitutionId = Field(description="The institution.")
    name: str = Field(description="Its name, as registered.")
    provider_id: ProviderId = Field(description="The provider that the certificate belongs to.")
    may_push: bool = Field(description="Whether this provider may report its loans now.")
    lookup: Literal["live", "stored", "both"] = Field(
        description=(
            "How a lookup gets its data. stored: from the register. live: by asking. both: by asking, and from the "
            "register when there is no answer in time (SPEC appendix B)."
        )
    )
    last_push: Received | None = Field(
        description="When a push of this provider was last accepted, at most ten seconds too early."
    )
    dataset: DatasetEntry | None = Field(description="Null for a provider that only pushes.")


class ConnectionResponse(Response):
    """Who the caller is to us, and what has become of its data."""

    organisation: str = Field(
        description="What we read from the certificate, as an organizationIdentifier (ETSI EN 319 412-1)."
    )
    certificate: ClientCertificate
    lender: LenderEntry | None = Field(description="Null for whoever is no lender.")
    institutions: list[InstitutionEntry] = Field(description="Empty for whoever is no provider.")
