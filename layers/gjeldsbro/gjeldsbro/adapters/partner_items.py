"""How institutions, lenders, receivers and datasets stand in items of the PartnerTable."""

from dataclasses import replace
from typing import Any

from gjeldsbro.services.ports import Dataset, Institution, Lease, Lender, Provider, Receiver

DATASET_NAMES = {
    "as_of": "asOf",
    "fetch_start": "fetchStart",
    "run": "run",
    "index": "index",
    "key_version": "keyVersion",
    "customers": "customers",
    "pending": "pending",
    "rekey": "rekey",
    "retired": "retired",
    "full_at": "fullAt",
    "held": "held",
    "lease": "lease",
    "fetch": "fetch",
    "last_run": "lastRun",
}
"""The attribute of each field of Dataset."""


def institution_of(item: dict[str, Any]) -> Institution:
    """The institution of an item."""
    return Institution(
        institution=item["sk"],
        name=item["name"],
        max_shrink_percent=item["maxShrinkPercent"],
        ended=item["ended"],
        providers=tuple(
            Provider(
                provider=provider["providerID"],
                url=provider.get("url"),
                dataset_url=provider.get("datasetUrl"),
                ca=provider.get("ca"),
                ended=provider["ended"],
                dataset=provider.get("dataset", "loans"),
                certificates=tuple(provider.get("certificates", ())),
                since=provider.get("since"),
            )
            for provider in item["providers"]
        ),
        lookup=item.get("lookup", "both"),
    )


def lender_of(item: dict[str, Any]) -> Lender:
    """The lender of an item."""
    return Lender(
        lender=item["sk"],
        name=item["name"],
        on_behalf_of=tuple(item["onBehalfOf"]),
        purposes=tuple(item["purposes"]),
        certificates=tuple(item["certificates"]),
    )


def receiver_of(item: dict[str, Any]) -> Receiver:
    """The receiver of an item."""
    sftp = item["sftp"]
    return Receiver(
        receiver=item["sk"],
        name=item["name"],
        on_behalf_of=tuple(item["onBehalfOf"]),
        url=sftp["url"],
        host_keys=tuple(sftp["hostKeys"]),
        secret=sftp["secret"],
        read_back=sftp["readBack"],
        since=item.get("since", {}),
    )


def dataset_of(item: dict[str, Any]) -> Dataset:
    """The dataset of an item."""
    institution, _, provider = item["sk"].partition("#")
    fields = {field: item[name] for field, name in DATASET_NAMES.items() if name in item}
    lease = fields.pop("lease", None)
    dataset = Dataset(institution, provider, **fields)
    return dataset if lease is None else replace(dataset, lease=Lease(**lease))
