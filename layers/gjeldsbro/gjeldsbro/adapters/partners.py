"""The PartnerTable: institutions, lenders, receivers, datasets, runs, deliveries and the operators' trail.

It holds no personal data: operators may read it. Keys:

=========================  ================================  ==========================================================
pk                         sk                                what
=========================  ================================  ==========================================================
``INSTITUTION``            institution                       name, limits, providers
``LENDER``                 lender                            name, whom it acts for, purposes
``RECEIVER``               receiver                          SFTP server, on-behalf-of organisations, name of the secret
``DATASET``                ``institution#provider``          what the register shows of it, lease, fetch in progress
``PUSHED``                 ``institution#provider``          when it last pushed
``BREAKER``                ``institution#provider``          that it fails when it is asked (``adapters.breaker_items``)
``OUTCOME#run``            subject                           what one run did with one dataset or delivery
``RUN#flow``               run                               a run as a whole
``DELIVERY#quarter``       ``receiver#onBehalfOf``           the delivery of a quarter's package
``CREDENTIAL``             what it is                        since and until when it is good
``RATE#organisation``      start of a window of time         how many requests that caller has sent in it
``PACE``                   provider                          when it may be asked next for packages (see ``pace``)
``TRAIL``                  ``time#id``                       who changed or looked at what, when and why
``REVOCATION``             issuer                            a revocation list (see ``adapters.revocations``)
``REVOKED#issuer``         chunk                             what is in it
=========================  ================================  ==========================================================
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from gjeldsbro.adapters.aws import from_item, to_item
from gjeldsbro.adapters.partner_items import DATASET_NAMES, dataset_of, institution_of, lender_of, receiver_of
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import DatasetBusyError, DeliveryBusyError
from gjeldsbro.services.night.leases import taken
from gjeldsbro.services.ports import Credential, Dataset, DatasetTime, Institution, Lease, Lender, Receiver

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OUTCOME_RETENTION = timedelta(days=90)
RUN_RETENTION = timedelta(days=400)
PUSHED_RETENTION = timedelta(days=400)
TRAIL_RETENTION = timedelta(days=5 * 365)

LEASE_TRIES = 5
"""Reading a lease and taking it are two calls; so often it may change between them."""


class Partners:
    """Reads and writes the PartnerTable. All reads are strongly consistent."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    # Institutions, lenders and receivers

    def institution(self, institution: str) -> Institution | None:
        """One institution, ended or not."""
        item = self._get("INSTITUTION", institution)
        return None if item is None else institution_of(item)

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included, by id."""
        return [institution_of(item) for item in self._query("INSTITUTION")]

    def put_institution(self, institution: Institution) -> None:
        """Store an institution, in place of what was there."""
        self._put("INSTITUTION", institution.institution, _institution_values(institution))

    def drop_provider(self, institution: Institution, provider: str) -> bool:
        """Forget an ended provider whose data is gone, and an ended institution with its last one.

        False, and nothing changes, when the institution is no longer what it was when ``institution`` was read.
        """
        remaining = tuple(candidate for candidate in institution.providers if candidate.provider != provider)
        key = {"pk": "INSTITUTION", "sk": institution.institution}
        condition: dict[str, Any] = {
            "ConditionExpression": "#providers = :seen AND #ended = :ended",
            "ExpressionAttributeNames": {"#providers": "providers", "#ended": "ended"},
            "ExpressionAttributeValues": to_item(
                {":seen": _institution_values(institution)["providers"], ":ended": institution.ended},
            ),
        }
        try:
            if institution.ended and not remaining:
                self._client.delete_item(TableName=self._table, Key=to_item(key), **condition)
            else:
                values = _institution_values(replace(institution, providers=remaining))
                self._client.put_item(TableName=self._table, Item=to_item({**key, **values}), **condition)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def receiver(self, receiver: str) -> Receiver | None:
        """One receiver."""
        item = self._get("RECEIVER", receiver)
        return None if item is None else receiver_of(item)

    def receivers(self) -> list[Receiver]:
        """All receivers, by id."""
        return [receiver_of(item) for item in self._query("RECEIVER")]

    def put_receiver(self, receiver: Receiver) -> None:
        """Store a receiver, in place of what was there."""
        self._put(
            "RECEIVER",
            receiver.receiver,
            {
                "name": receiver.name,
                "onBehalfOf": list(receiver.on_behalf_of),
                "sftp": {
                    "url": receiver.url,
                    "hostKeys": list(receiver.host_keys),
                    "secret": receiver.secret,
                    "readBack": receiver.read_back,
                },
                "since": dict(receiver.since),
            },
        )

    def remove_receiver(self, receiver: str) -> None:
        """Forget a receiver."""
        self._client.delete_item(TableName=self._table, Key=to_item({"pk": "RECEIVER", "sk": receiver}))

    def lenders(self) -> list[Lender]:
        """All lenders, by id."""
        return [lender_of(item) for item in self._query("LENDER")]

    def put_lender(self, lender: Lender) -> None:
        """Store a lender, in place of what was there."""
        values = {
            "name": lender.name,
            "onBehalfOf": list(lender.on_behalf_of),
            "purposes": list(lender.purposes),
            "certificates": list(lender.certificates),
        }
        self._put("LENDER", lender.lender, values)

    def remove_lender(self, lender: str) -> None:
        """Forget a lender."""
        self._client.delete_item(TableName=self._table, Key=to_item({"pk": "LENDER", "sk": lender}))

    # Datasets

    def dataset(self, institution: str, provider: str) -> Dataset:
        """What is known of a dataset; an empty one when nothing is."""
        item = self._get("DATASET", f"{institution}#{provider}")
        return Dataset(institution, provider) if item is None else dataset_of(item)

    def datasets(self, institution: str | None = None) -> list[Dataset]:
        """All datasets, or those of one institution."""
        prefix = "" if institution is None else f"{institution}#"
        return [dataset_of(item) for item in self._query("DATASET", prefix)]

    def dataset_times(self) -> list[DatasetTime]:
        """``asOf`` and ``keyVersion`` of all datasets; nothing else of them is sent."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": "DATASET"}),
            ProjectionExpression="sk, asOf, keyVersion",
        )
        times = []
        for page in pages:
            for item in map(from_item, page["Items"]):
                institution, _, provider = item["sk"].partition("#")
                times.append(DatasetTime(institution, provider, item.get("asOf"), item.get("keyVersion")))
        return times

    def take_lease(self, institution: str, provider: str, run: str, now: datetime, seconds: int) -> Dataset:
        """Take the right to work on a dataset, for this invocation of ``run`` (see services.night.leases).

        Raises DatasetBusyError while another run has it.
        """
        lease: Lease | None = None
        for _ in range(LEASE_TRIES):
            dataset = self.dataset(institution, provider)
            held = dataset.lease
            if lease is not None and held == lease:
                return dataset  # it was ours before the client repeated the call
            lease = taken(held, run, now, seconds)
            values = {":lease": _lease_values(lease)}
            if held is not None:
                values[":seen"] = _lease_values(held)
            try:
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=to_item({"pk": "DATASET", "sk": f"{institution}#{provider}"}),
                    UpdateExpression="SET lease = :lease",
                    ConditionExpression="attribute_not_exists(lease)" if held is None else "lease = :seen",
                    ExpressionAttributeValues=to_item(values),
                    ReturnValues="ALL_NEW",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                continue  # somebody took it or gave it back in between
            return dataset_of(from_item(answer["Attributes"]))
        raise DatasetBusyError(f"others take the dataset of {institution} from {provider} at the same time")

    def update_dataset(self, dataset: Dataset, run: str, /, **changes: Any) -> Dataset:
        """Change fields of a dataset in one write, while ``run`` has the lease under the token that ``dataset`` shows.

        ``changes`` are fields of Dataset; None removes one. Raises DatasetBusyError when the lease is another run's, or
        another invocation's.
        """
        sets, removes = [], []
        condition, names, values = _owned(dataset, run)
        for number, (field, value) in enumerate(changes.items()):
            names[f"#f{number}"] = DATASET_NAMES[field]
            if value is None:
                removes.append(f"#f{number}")
            else:
                sets.append(f"#f{number} = :f{number}")
                values[f":f{number}"] = _lease_values(value) if isinstance(value, Lease) else value
        expression = f"SET {', '.join(sets)} " if sets else ""
        expression += f"REMOVE {', '.join(removes)}" if removes else ""
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": "DATASET", "sk": f"{dataset.institution}#{dataset.provider}"}),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=to_item(values),
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            current = self.dataset(dataset.institution, dataset.provider)
            if "lease" in changes and all(getattr(current, name) == value for name, value in _fields(changes)):
                return current  # it was changed before the client repeated the call
            raise _not_ours(dataset) from None
        return dataset_of(from_item(answer["Attributes"]))

    def remove_dataset(self, dataset: Dataset, run: str) -> None:
        """Forget a dataset whose items are gone, on the same condition as ``update_dataset``."""
        condition, names, values = _owned(dataset, run)
        try:
            self._client.delete_item(
                TableName=self._table,
                Key=to_item({"pk": "DATASET", "sk": f"{dataset.institution}#{dataset.provider}"}),
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=to_item(values),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            if self._get("DATASET", f"{dataset.institution}#{dataset.provider}") is not None:
                raise _not_ours(dataset) from None

    def record_push(self, institution: str, provider: str, now: datetime) -> None:
        """Remember when a provider last pushed for an institution."""
        values = {"at": from_datetime(now), "expires": int((now + PUSHED_RETENTION).timestamp())}
        self._put("PUSHED", f"{institution}#{provider}", values)

    def last_push(self, institution: str, provider: str) -> str | None:
        """When a provider last pushed for an institution (fixed form), or None."""
        item = self._get("PUSHED", f"{institution}#{provider}")
        return None if item is None else str(item["at"])

    # Runs and their outcomes

    def put_outcome(self, run: str, subject: str, outcome: dict[str, Any], now: datetime) -> None:
        """Store what a run did with one dataset or delivery; a retry writes it again."""
        values = {**outcome, "expires": int((now + OUTCOME_RETENTION).timestamp())}
        self._put(f"OUTCOME#{run}", subject, values)

    def outcomes(self, run: str) -> dict[str, dict[str, Any]]:
        """The outcomes of a run by subject."""
        return {item["sk"]: _values(item) for item in self._query(f"OUTCOME#{run}")}

    def put_run(self, flow: str, run: str, values: dict[str, Any], now: datetime) -> None:
        """Store what is known of a run as a whole, in place of what was there."""
        self._put(f"RUN#{flow}", run, {**values, "expires": int((now + RUN_RETENTION).timestamp())})

    def run(self, flow: str, run: str) -> dict[str, Any] | None:
        """One run of a flow."""
        item = self._get(f"RUN#{flow}", run)
        return None if item is None else _values(item)

    def runs(self, flow: str, since: datetime) -> dict[str, dict[str, Any]]:
        """The runs of a flow that were started at that time or later, by name."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk",
            FilterExpression="startedAt >= :since",
            ExpressionAttributeValues=to_item({":pk": f"RUN#{flow}", ":since": from_datetime(since)}),
        )
        return {item["sk"]: _values(item) for page in pages for item in map(from_item, page["Items"])}

    # Deliveries

    def delivery(self, receiver: str, on_behalf_of: str, quarter: str) -> dict[str, Any] | None:
        """The delivery of a quarter's package."""
        item = self._get(f"DELIVERY#{quarter}", f"{receiver}#{on_behalf_of}")
        return None if item is None else _values(item)

    def deliveries(self, quarter: str) -> dict[str, dict[str, Any]]:
        """The deliveries of a quarter by ``receiver#onBehalfOf``."""
        return {item["sk"]: _values(item) for item in self._query(f"DELIVERY#{quarter}")}

    def claim_delivery(
        self, receiver: str, on_behalf_of: str, quarter: str, run: str, now: datetime, *, again: bool
    ) -> dict[str, Any] | None:
        """Claim the delivery of a quarter's package for a run, and return what is known of it.

        None when it was delivered before (``deliveredAt``), unless by another run and ``again``. One that another run
        claimed but did not finish is taken over, but not while that run gives its package the name (see
        ``start_publishing``): then DeliveryBusyError.
        """
        free = "(attribute_not_exists(publishing) OR publishing.#run = :run OR publishing.#until < :now)"
        open_ = "(#run <> :run OR #state <> :delivered)" if again else "attribute_not_exists(deliveredAt)"
        values = {":delivering": "delivering", ":run": run, ":now": from_datetime(now)}
        if again:
            values[":delivered"] = "delivered"
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": f"DELIVERY#{quarter}", "sk": f"{receiver}#{on_behalf_of}"}),
                UpdateExpression="SET #state = :delivering, #run = :run",
                ConditionExpression=f"{free} AND {open_}",
                ExpressionAttributeNames={"#state": "state", "#run": "run", "#until": "until"},
                ExpressionAttributeValues=to_item(values),
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            held = self.delivery(receiver, on_behalf_of, quarter) or {}
            if held.get("deliveredAt") is not None and (
                not again or (held["run"], held["state"]) == (run, "delivered")
            ):
                return None
            raise DeliveryBusyError("another run is just giving its package the name") from None
        return _values(from_item(answer["Attributes"]))

    def start_publishing(
        self, receiver: str, on_behalf_of: str, quarter: str, run: str, publishing: dict[str, Any]
    ) -> bool:
        """Announce that ``run`` is about to give its package the name.

        False when it has the claim no more, or when another call of it has announced a package of another content.
        ``publishing`` says which package that is (``sha256``), which ``run``, and ``until`` when (fixed form) it may
        still do it: until then no other run can claim the delivery.
        """
        try:
            self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": f"DELIVERY#{quarter}", "sk": f"{receiver}#{on_behalf_of}"}),
                UpdateExpression="SET publishing = :publishing",
                ConditionExpression=(
                    "#run = :run AND #state = :delivering AND (attribute_not_exists(publishing.sha256)"
                    " OR publishing.sha256 = :sha256 OR publishing.#run <> :run)"
                ),
                ExpressionAttributeNames={"#state": "state", "#run": "run"},
                ExpressionAttributeValues=to_item(
                    {
                        ":publishing": publishing,
                        ":sha256": publishing["sha256"],
                        ":run": run,
                        ":delivering": "delivering",
                    }
                ),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def update_delivery(self, receiver: str, on_behalf_of: str, quarter: str, run: str, values: dict[str, Any]) -> bool:
        """Replace what is known of a delivery, while ``run`` has the claim; False when another run has taken it.

        ``values`` may name another ``run``: the one that made the delivery.
        """
        item = {"pk": f"DELIVERY#{quarter}", "sk": f"{receiver}#{on_behalf_of}", "run": run, **values}
        try:
            self._client.put_item(
                TableName=self._table,
                Item=to_item(item),
                ConditionExpression="#run = :run",
                ExpressionAttributeNames={"#run": "run"},
                ExpressionAttributeValues=to_item({":run": run}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    # Certificates, keys and passwords that nobody can look at once they are stored

    def credentials(self) -> list[Credential]:
        """All that operators have handed over, by subject."""
        return [
            Credential(item["sk"], item["since"], item.get("until"), item.get("fingerprint"))
            for item in self._query("CREDENTIAL")
        ]

    def put_credential(self, credential: Credential) -> None:
        """Remember until when a credential is good, in place of what was known of its predecessor."""
        values = {name: value for name, value in credential._asdict().items() if value is not None}
        del values["subject"]
        self._put("CREDENTIAL", credential.subject, values)

    def remove_credential(self, subject: str) -> None:
        """Forget a credential that is not used any more."""
        self._client.delete_item(TableName=self._table, Key=to_item({"pk": "CREDENTIAL", "sk": subject}))

    # Requests of callers of the API

    def count(self, organisation: str, window_start: datetime, expires: datetime) -> int:
        """Count one more request of a caller in that window; the number of them now."""
        answer = self._client.update_item(
            TableName=self._table,
            Key=to_item({"pk": f"RATE#{organisation}", "sk": from_datetime(window_start)}),
            UpdateExpression="ADD #requests :one SET #expires = :expires",
            ExpressionAttributeNames={"#requests": "requests", "#expires": "expires"},
            ExpressionAttributeValues=to_item({":one": 1, ":expires": int(expires.timestamp())}),
            ReturnValues="UPDATED_NEW",
        )
        return int(from_item(answer["Attributes"])["requests"])

    # The operators' trail

    def record_trail(self, *, who: str, action: str, subject: str, reason: str | None, now: datetime) -> None:
        """Record that somebody changed, or looked at, something. ``subject`` is never a person's number."""
        self._put(
            "TRAIL",
            f"{from_datetime(now)}#{uuid4()}",
            {
                "who": who,
                "action": action,
                "subject": subject,
                "reason": reason,
                "expires": int((now + TRAIL_RETENTION).timestamp()),
            },
        )

    def trail(self, since: datetime) -> list[dict[str, Any]]:
        """The trail from a point in time on, oldest first; each with its ``at``."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND sk >= :since",
            ExpressionAttributeValues=to_item({":pk": "TRAIL", ":since": from_datetime(since)}),
        )
        items = (from_item(item) for page in pages for item in page["Items"])
        return [{"at": item["sk"].partition("#")[0], **_values(item)} for item in items]

    def _get(self, pk: str, sk: str) -> dict[str, Any] | None:
        answer = self._client.get_item(TableName=self._table, Key=to_item({"pk": pk, "sk": sk}), ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    def _put(self, pk: str, sk: str, values: dict[str, Any]) -> None:
        self._client.put_item(TableName=self._table, Item=to_item({"pk": pk, "sk": sk, **values}))

    def _query(self, pk: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        condition, values = "pk = :pk", {":pk": pk}
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = prefix
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item(values),
        )
        for page in pages:
            for item in page["Items"]:
                yield from_item(item)


def _values(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in {"pk", "sk", "expires"}}


def _lease_values(lease: Lease) -> dict[str, Any]:
    return {name: value for name, value in vars(lease).items() if value is not None}


def _owned(dataset: Dataset, run: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """The condition, its names and its values: the lease is ``run``'s, and this invocation's."""
    names, values = {"#run": "run", "#token": "token"}, {":owner": run}
    if dataset.lease is None or dataset.lease.token is None:
        return "lease.#run = :owner AND attribute_not_exists(lease.#token)", names, values
    return "lease.#run = :owner AND lease.#token = :token", names, {**values, ":token": dataset.lease.token}


def _not_ours(dataset: Dataset) -> DatasetBusyError:
    return DatasetBusyError(f"the dataset of {dataset.institution} from {dataset.provider} is now worked on by another")


def _fields(changes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of Dataset after ``changes``, in which None stands for a field's default."""
    defaults = {"customers": 0, "held": False}
    for field, value in changes.items():
        yield field, defaults.get(field) if value is None else value


def _institution_values(institution: Institution) -> dict[str, Any]:
    return {
        "name": institution.name,
        "maxShrinkPercent": institution.max_shrink_percent,
        "ended": institution.ended,
        "lookup": institution.lookup,
        "providers": [
            {
                name: value
                for name, value in (
                    ("providerID", provider.provider),
                    ("url", provider.url),
                    ("datasetUrl", provider.dataset_url),
                    ("ca", provider.ca),
                    ("ended", provider.ended),
                    ("dataset", provider.dataset),
                    ("certificates", list(provider.certificates)),
                    ("since", provider.since),
                )
                if value is not None
            }
            for provider in institution.providers
        ],
    }
