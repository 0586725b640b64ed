"""How one simulated dataset is served."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gjeldsbro_population.writers import Numbers
from gjeldsbro_simulator.faults import Fault

Compression = Literal["none", "spec-deflate", "spec-raw-deflate", "deflate", "raw-deflate", "gzip"]
"""``spec-*`` name it in the header ``Encoding`` as SPEC 6.2 does, the others in ``Content-Encoding``; ``raw`` is a
deflate stream without zlib's header and checksum, as some servers send it."""


class ServedDataset(BaseModel):
    """One provider's dataset of one institution and its manners."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    institution: str
    provider: str
    page_size: int | None = Field(default=None, ge=1)
    """Customers a page; None: everything in one page."""
    announce_pages: bool = True
    """Whether a paged dataset carries the header ``numberOfPages``; a page beyond the last one is empty."""
    compression: Compression = "none"
    numbers: Numbers = "strings"
    single: Literal["wrapped", "bare"] = "wrapped"
    """Single-customer answers: SPEC's document, or the bare customer object that some institutions send."""
    fault: Fault | None = None


def default_datasets(datasets: Iterable[tuple[str, str]], numbers: Numbers | None = None) -> list[ServedDataset]:
    """Manners for (institution, provider) pairs so that all of them occur: forms of compression, paging, numbers.

    ``numbers``: the same form for all of them.
    """
    compressions: tuple[Compression, ...] = (
        "none",
        "spec-deflate",
        "gzip",
        "spec-raw-deflate",
        "deflate",
        "raw-deflate",
    )
    forms: tuple[Numbers, ...] = ("strings", "integers", "padded", "strings")
    return [
        ServedDataset(
            institution=institution,
            provider=provider,
            page_size=(None, 100, None, 250, 40)[index % 5],
            announce_pages=index % 5 != 3,
            compression=compressions[index % len(compressions)],
            numbers=numbers or forms[index % len(forms)],
            single="bare" if index % 3 == 2 else "wrapped",
        )
        for index, (institution, provider) in enumerate(datasets)
    ]


def read_datasets(file: Path) -> list[ServedDataset]:
    """The datasets that a YAML file lists; raises ValueError when it is not such a list."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as exc:
        raise ValueError(f"{file}: not YAML: {exc}") from exc
    return TypeAdapter(list[ServedDataset]).validate_python(document)
