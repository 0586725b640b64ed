"""Lookups on an EventBridge bus, where a service hears of them that notifies the persons (decision record 0018).

An event's detail::

    {"lookupID", "at", "lender", "lenderName", "onBehalfOf"?, "referenceID", "purpose", "messageToCustomer"?,
     "noticeRequired": true|false, "customer": {"ciphertext": "<base64>", "keyId": "<key's ARN>"}}

``ciphertext`` is the person's number under the NoticeKey, with the encryption context ``{"lookupID": ...}``: nobody
reads on the bus who was looked up, but the service whose role the key's policy names.
"""

import json
import random
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import batched
from time import sleep
from typing import TYPE_CHECKING, Any

from gjeldsbro.domain.timestamps import shorten
from gjeldsbro.errors import StoreUnavailableError
from gjeldsbro.services.debt_lookup import LookupNotice

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef
    from mypy_boto3_kms import KMSClient

SOURCE = "gjeldsbro"
DETAIL_TYPE = "DebtLookup"
BATCH_SIZE = 10
"""Most events that one PutEvents takes."""
MAX_ATTEMPTS = 3

_POOL = ThreadPoolExecutor(8, thread_name_prefix="encrypt")


class Announcements:
    """Announces the persons of one lookup (``services.debt_lookup.LookupAnnouncements``): one is made for each."""

    def __init__(
        self,
        bus: str,
        key: str,
        events: "EventBridgeClient",
        kms: "KMSClient",
        *,
        wait: Callable[[float], None] = sleep,
    ) -> None:
        self._bus = bus
        self._key = key
        self._events = events
        self._kms = kms
        self._wait = wait
        self._ciphertexts: dict[str, Future[bytes]] = {}

    def prepare(self, lookup_id: str, customer_ids: Sequence[str]) -> None:
        """Begin to encrypt who is looked up, while institutions are being asked."""
        for customer_id in customer_ids:
            self._ciphertexts[customer_id] = _POOL.submit(self._encrypt, lookup_id, customer_id)

    def announce(self, notices: Sequence[LookupNotice]) -> None:
        """Announce all persons of the lookup that was prepared for; returns when the bus has all of them.

        Raises StoreUnavailableError when it does not take them all in MAX_ATTEMPTS tries, and botocore's errors.
        """
        for batch in batched([self._entry(notice) for notice in notices], BATCH_SIZE, strict=False):
            self._put(batch)

    def _put(self, entries: Sequence["PutEventsRequestEntryTypeDef"]) -> None:
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                self._wait(random.uniform(0.02, 0.1) * attempt)  # noqa: S311 - jitter, not a secret
            answer = self._events.put_events(Entries=entries)
            if not answer["FailedEntryCount"]:
                return
            results = zip(entries, answer["Entries"], strict=True)
            entries = [entry for entry, result in results if result.get("ErrorCode")]
        raise StoreUnavailableError("PutEvents did not take all events")

    def _entry(self, notice: LookupNotice) -> "PutEventsRequestEntryTypeDef":
        ciphertext = self._ciphertexts[notice.customer_id].result()
        detail: dict[str, Any] = {
            "lookupID": notice.lookup_id,
            "at": shorten(notice.at),
            "lender": notice.lender,
            "lenderName": notice.lender_name,
            "onBehalfOf": notice.on_behalf_of,
            "referenceID": notice.reference,
            "purpose": notice.purpose,
            "messageToCustomer": notice.message,
            "noticeRequired": notice.notice_required,
            "customer": {"ciphertext": b64encode(ciphertext).decode(), "keyId": self._key},
        }
        return {
            "EventBusName": self._bus,
            "Source": SOURCE,
            "DetailType": DETAIL_TYPE,
            "Detail": json.dumps({name: value for name, value in detail.items() if value is not None}),
        }

    def _encrypt(self, lookup_id: str, customer_id: str) -> bytes:
        answer = self._kms.encrypt(
            KeyId=self._key, Plaintext=customer_id.encode(), EncryptionContext={"lookupID": lookup_id}
        )
        return answer["CiphertextBlob"]
