"""What is stored of the customers of a dataset's page: keyed hashes, digests and encoded loans, no identity number."""

from collections.abc import Sequence

from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.loans import CustomerLoans, content_digest, encode_loans
from gjeldsbro.domain.register import MAX_LOANS_BYTES

PageRecord = tuple[bytes, bytes, bytes]
"""Key, digest and record, as ``dataset_index.page_files`` takes them; without loans the last two are empty."""


class PageRecords:
    """Makes the records of one page, customers in its order, and counts what the night's report says of them."""

    def __init__(self, hash_key: HashKey) -> None:
        self._hash_key = hash_key
        self.customers = 0
        self.with_loans = 0
        self.times: tuple[str, str] | None = None
        """The earliest and the latest timestamp, in the fixed form; None without loans."""
        self.too_large: list[int] = []
        """The places of customers whose loans take more than MAX_LOANS_BYTES."""

    def of(self, customers: Sequence[CustomerLoans]) -> list[PageRecord]:
        """The records of the page's next customers."""
        found = []
        keys = self._hash_key.customer_keys([customer.customer_id for customer in customers])
        for number, (key, customer) in enumerate(zip(keys, customers, strict=True), start=self.customers):
            if customer.loans:
                record = encode_loans(customer.loans)
                if len(record) > MAX_LOANS_BYTES:
                    self.too_large.append(number)
                self.with_loans += 1
                found.append((key, content_digest(*customer.loans), key + record))
            else:
                found.append((key, b"", b""))
        self.customers += len(customers)
        times = {loan.timestamp for customer in customers for loan in customer.loans}
        if times:
            times.update(self.times or ())
            self.times = min(times), max(times)
        return found
