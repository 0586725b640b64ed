"""The files that operators write (contract), checked before anything is stored.

Each broken rule is named with its place in the file. Files that are named in a file are found next to it.
"""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gjeldsbro.adapters.crl import issuer_of
from gjeldsbro.domain.identity_numbers import (
    institution_fault,
    organisation_identifier_fault,
    organisation_identifiers,
    organisation_number_fault,
    provider_fault,
)
from gjeldsbro.domain.purposes import USUAL_PURPOSES, Purpose
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError, RevocationListError
from gjeldsbro.services.ports import (
    DatasetKind,
    Institution,
    Lender,
    LookupMode,
    Provider,
    Receiver,
    RevocationList,
)
from gjeldsbro_operator.keys import private_key_fault, public_fingerprint


class InvalidFileError(ConfigurationError):
    """A file breaks rules; ``lines`` name each place and rule."""

    def __init__(self, file: Path, faults: list[tuple[str, str]]) -> None:
        self.lines = [f"{file}: {place}: {rule}" if place else f"{file}: {rule}" for place, rule in faults]
        super().__init__("; ".join(self.lines))


class _RepeatedKeyError(yaml.MarkedYAMLError):
    """A mapping names a key twice: of two values that differ, the operator means one, and YAML takes the last."""


class _Loader(yaml.SafeLoader):
    """YAML as ``safe_load`` reads it, but that no key may stand twice in a mapping."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping; raises _RepeatedKeyError at the second of two equal keys."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise _RepeatedKeyError(problem=key.value, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def _as_text(value: Any) -> Any:
    """An id that was written without quotes: YAML reads it as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _institution(text: str) -> str:
    return _checked(text, institution_fault(text))


def _provider(text: str) -> str:
    return _checked(text, provider_fault(text))


def _organisation(text: str) -> str:
    return _checked(text, organisation_number_fault(text))


def _certificate(text: str) -> str:
    return _checked(text, organisation_identifier_fault(text))


def _each_once[T](values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise ValueError("each may occur once")
    return values


def _checked(text: str, fault: str | None) -> str:
    if fault is not None:
        raise ValueError(str(fault))
    return text


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text.strip()


def _web_address(url: str, info: ValidationInfo) -> str:
    local = bool(info.context and info.context["local"])
    rule = "must be an https URL (plain http only in a local stack)"
    return _address(url, ("https", "http") if local else ("https",), rule)


def _list_address(url: str) -> str:
    return _address(url, ("http", "https"), "must be an http or https URL")  # lists are signed, and http is usual


def _address(url: str, schemes: tuple[str, ...], rule: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(rule)
    if parts.username is not None or parts.fragment or not url.isprintable() or " " in url:
        raise ValueError("must hold neither user, password, fragment nor blanks")
    return url


def _base_address(url: str, info: ValidationInfo) -> str:
    if urlsplit(_web_address(url, info)).query:
        raise ValueError("must not hold a query; a whole URL goes into datasetUrl")
    return url.rstrip("/")


InstitutionId = Annotated[str, BeforeValidator(_as_text), AfterValidator(_institution)]
ProviderId = Annotated[str, BeforeValidator(_as_text), AfterValidator(_provider)]
OrganisationNumber = Annotated[str, BeforeValidator(_as_text), AfterValidator(_organisation)]
OrganisationIdentifiers = Annotated[list[Annotated[str, AfterValidator(_certificate)]], AfterValidator(_each_once)]
Name = Annotated[str, AfterValidator(_one_line), Field(max_length=200)]


def _as_day(value: Any) -> Any:
    """A day that was written in quotes: without them YAML reads it as one."""
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("must be a day such as 2027-01-31") from None


Day = Annotated[date, BeforeValidator(_as_day)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ProviderEntry(_Entry):
    """One of an institution's ``providers``."""

    providerID: ProviderId  # noqa: N815 - the file's name
    url: Annotated[str, AfterValidator(_base_address)] | None = None
    datasetUrl: Annotated[str, AfterValidator(_web_address)] | None = None  # noqa: N815 - the file's name
    caFile: str | None = None  # noqa: N815 - the file's name
    dataset: DatasetKind = "loans"
    certificates: OrganisationIdentifiers = []


class InstitutionFile(_Entry):
    """An institution file."""

    financialInstitutionID: InstitutionId  # noqa: N815 - the file's name
    name: Name
    maxShrinkPercent: int = Field(default=30, ge=0, le=100)  # noqa: N815 - the file's name
    lookup: LookupMode = "both"
    providers: list[ProviderEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_provider_once(self) -> Self:
        names = [provider.providerID for provider in self.providers]
        if len(set(names)) < len(names):
            raise ValueError("providers: each providerID may occur once")
        return self

    @model_validator(mode="after")
    def _index_only_where_it_is_asked(self) -> Self:
        """Of an index alone nothing can be shown: then the institution must be asked, and at an address we know."""
        for number, provider in enumerate(self.providers):
            place = f"providers.{number}.dataset"
            if provider.dataset == "ssn" and self.lookup != "live":
                raise ValueError(f"{place}: ssn is for an institution that is always asked: it needs lookup: live")
            if provider.dataset == "ssn" and (provider.url is None or provider.datasetUrl is not None):
                raise ValueError(f"{place}: ssn is fetched from url, which it needs, and not from a datasetUrl")
        return self


class SftpEntry(_Entry):
    """A receiver's ``sftp``."""

    url: str
    hostKeys: list[str] = Field(min_length=1)  # noqa: N815 - the file's name
    privateKeyFile: str | None = None  # noqa: N815 - the file's name
    passphraseFile: str | None = None  # noqa: N815 - the file's name
    passwordFile: str | None = None  # noqa: N815 - the file's name
    readBack: bool = True  # noqa: N815 - the file's name
    loginValidUntil: Day | None = None  # noqa: N815 - the file's name
    hostKeysValidUntil: Day | None = None  # noqa: N815 - the file's name

    @field_validator("url")
    @classmethod
    def _sftp_address(cls, url: str) -> str:
        # paramiko takes a third of a second to import, and only receivers need it
        from gjeldsbro.adapters.receiver_client import Address  # noqa: PLC0415

        try:
            Address.parse(url)
        except ConfigurationError:
            raise ValueError("must be of the form sftp://user@host:port/folder") from None
        return url

    @field_validator("hostKeys")
    @classmethod
    def _public_keys(cls, keys: list[str]) -> list[str]:
        for number, key in enumerate(keys):
            try:
                load_ssh_public_key(" ".join(key.split()[:2]).encode())
            except Exception:  # noqa: BLE001 - cryptography raises several kinds for a malformed key
                raise ValueError(f"number {number + 1} is not an SSH public key such as 'ssh-ed25519 AAAA…'") from None
        return [" ".join(key.split()[:2]) for key in keys]

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> Self:
        if (self.privateKeyFile is None) == (self.passwordFile is None):
            raise ValueError("give either privateKeyFile or passwordFile")
        if self.passphraseFile is not None and self.privateKeyFile is None:
            raise ValueError("passphraseFile belongs to a privateKeyFile")
        return self


class ReceiverFile(_Entry):
    """A receiver file."""

    receiver: OrganisationNumber
    name: Name
    onBehalfOf: list[OrganisationNumber] = Field(min_length=1)  # noqa: N815 - the file's name
    sftp: SftpEntry

    @field_validator("onBehalfOf")
    @classmethod
    def _each_once(cls, numbers: list[str]) -> list[str]:
        if len(set(numbers)) < len(numbers):
            raise ValueError("each organisation may occur once")
        return numbers


class LenderFile(_Entry):
    """A lender file."""

    lender: InstitutionId
    name: Name
    onBehalfOf: Annotated[list[InstitutionId], AfterValidator(_each_once)] = []  # noqa: N815 - the file's name
    purposes: Annotated[list[Purpose], AfterValidator(_each_once), Field(min_length=1)] = list(USUAL_PURPOSES)
    certificates: OrganisationIdentifiers = []

    @model_validator(mode="after")
    def _known_by_its_certificate(self) -> Self:
        if not self.certificates and not organisation_identifiers(self.lender):
            raise ValueError("certificates: needed, as this lender's id does not say what its certificate names")
        return self


class RevocationFile(_Entry):
    """A file that names an authority's list of revoked certificates."""

    name: Name
    issuerFile: str  # noqa: N815 - the file's name
    url: Annotated[str, AfterValidator(_list_address)]


def read_revocation(file: Path) -> RevocationList:
    """The revocation list that a file describes. Raises InvalidFileError."""
    described = _validated(file, RevocationFile, local=False)
    try:
        certificate = _text(file.parent / described.issuerFile)
        issuer = issuer_of(certificate)
    except (ConfigurationError, RevocationListError) as exc:
        raise InvalidFileError(file, [("issuerFile", str(exc))]) from None
    return RevocationList(issuer, described.name, described.url, certificate)


def read_institution(file: Path, *, local: bool) -> Institution:
    """The institution that a file describes. Raises InvalidFileError."""
    described = _validated(file, InstitutionFile, local=local)
    faults = []
    providers = []
    for number, entry in enumerate(described.providers):
        ca = None
        if entry.caFile is not None:
            try:
                ca = _certificates(file.parent / entry.caFile)
            except ConfigurationError as exc:
                faults.append((f"providers.{number}.caFile", str(exc)))
        providers.append(
            Provider(
                entry.providerID,
                entry.url,
                entry.datasetUrl,
                ca,
                dataset=entry.dataset,
                certificates=tuple(entry.certificates),
            )
        )
    if faults:
        raise InvalidFileError(file, faults)
    return Institution(
        institution=described.financialInstitutionID,
        name=described.name,
        max_shrink_percent=described.maxShrinkPercent,
        providers=tuple(providers),
        lookup=described.lookup,
    )


def read_lender(file: Path) -> Lender:
    """The lender that a file describes. Raises InvalidFileError."""
    described = _validated(file, LenderFile, local=False)
    return Lender(
        lender=described.lender,
        name=described.name,
        on_behalf_of=tuple(described.onBehalfOf),
        purposes=tuple(described.purposes),
        certificates=tuple(described.certificates),
    )


class DescribedReceiver(NamedTuple):
    """What a receiver file says: the receiver, what its secret holds (see adapters.secrets), and until when it is good.

    ``login_until`` and ``host_keys_until`` are the ends of the days in the file (fixed form); ``login_fingerprint`` is
    that of the key's public half, None with a password.
    """

    receiver: Receiver
    credentials: dict[str, str]
    login_fingerprint: str | None
    login_until: str | None
    host_keys_until: str | None


def read_receiver(file: Path, secret: str) -> DescribedReceiver:
    """The receiver that a file describes. Raises InvalidFileError.

    ``secret`` is the start of the secret's name; the receiver's number completes it.
    """
    described = _validated(file, ReceiverFile, local=False)
    sftp = described.sftp
    credentials: dict[str, str] = {}
    faults = []
    for key, named, place in (
        ("privateKey", sftp.privateKeyFile, "sftp.privateKeyFile"),
        ("passphrase", sftp.passphraseFile, "sftp.passphraseFile"),
        ("password", sftp.passwordFile, "sftp.passwordFile"),
    ):
        if named is None:
            continue
        try:
            credentials[key] = _text(file.parent / named).rstrip("\r\n")
        except ConfigurationError as exc:
            faults.append((place, str(exc)))
        else:
            if not credentials[key].strip():
                faults.append((place, "is empty"))
    fingerprint = None
    if not faults and "privateKey" in credentials:
        fault = private_key_fault(credentials["privateKey"], credentials.get("passphrase"))
        if fault is not None:
            faults.append(("sftp.privateKeyFile", fault))
        else:
            fingerprint = public_fingerprint(credentials["privateKey"], credentials.get("passphrase"))
    if faults:
        raise InvalidFileError(file, faults)
    receiver = Receiver(
        receiver=described.receiver,
        name=described.name,
        on_behalf_of=tuple(described.onBehalfOf),
        url=sftp.url,
        host_keys=tuple(sftp.hostKeys),
        secret=f"{secret}{described.receiver}",
        read_back=sftp.readBack,
    )
    return DescribedReceiver(
        receiver, credentials, fingerprint, _end_of(sftp.loginValidUntil), _end_of(sftp.hostKeysValidUntil)
    )


def _end_of(day: date | None) -> str | None:
    return None if day is None else from_datetime(datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC))


def _validated[M: BaseModel](file: Path, model: type[M], *, local: bool) -> M:
    try:
        document = yaml.load(_text(file), _Loader)  # noqa: S506 - it is a SafeLoader
    except _RepeatedKeyError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark is not None else ""
        raise InvalidFileError(file, [(f"line {line}", f"{exc.problem} stands here for the second time")]) from None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark is not None else ""
        raise InvalidFileError(file, [(place, "is not YAML")]) from None
    if not isinstance(document, dict):
        raise InvalidFileError(file, [("", "is not a YAML mapping")])
    try:
        return model.model_validate(document, context={"local": local})
    except ValidationError as exc:
        raise InvalidFileError(file, [_fault(dict(error)) for error in exc.errors()]) from None


def _fault(error: dict[str, Any]) -> tuple[str, str]:
    rules = {"missing": "is required", "extra_forbidden": "is not known here"}
    if error["type"] == "literal_error":
        rules["literal_error"] = f"must be {error['ctx']['expected'].replace("'", '')}"
    rule = rules.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
    return ".".join(map(str, error["loc"])), rule


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{file} cannot be read ({type(exc).__name__})") from None


def _certificates(file: Path) -> str:
    text = _text(file)
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ConfigurationError(f"{file} holds no PEM certificate") from None
    return text
