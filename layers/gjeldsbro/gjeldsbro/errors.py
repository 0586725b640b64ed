"""Every error that gjeldsbro raises on purpose, split by what the caller can do about it.

::

    GjeldsbroError
    ├── RetryableError                 try the same call again later
    │   ├── InstitutionUnavailableError
    │   ├── ReceiverUnavailableError
    │   ├── DeliveryBusyError
    │   ├── StoreUnavailableError
    │   ├── RevocationUnknownError
    │   └── TooManyRequestsError
    ├── RefusedError                   the other party must mend what it sent, or how it is set up
    │   ├── NotAuthenticatedError
    │   ├── NotEntitledError
    │   ├── InvalidMessageError
    │   ├── MessageTooLargeError
    │   ├── DatasetRefusedError
    │   ├── AnswerRefusedError
    │   ├── SsnListError
    │   ├── RevocationListError
    │   └── ReceiverRefusedError
    └── OperatorError                  somebody of ours must act
        ├── ConfigurationError
        ├── DatasetBusyError
        └── UnexpectedError

The class names are a contract: ``Retry`` and ``Catch`` in ``statemachines/`` match on them, and a test checks that
every name used there exists here. No message holds an identity number, an account number or an amount.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Violation(NamedTuple):
    """A broken rule: ``place`` is a JSON pointer (RFC 6901) into the message, ``rule`` says what should be there.

    Neither holds the offending value: both end up in answers, reports and logs.
    """

    place: str
    rule: str

    def __str__(self) -> str:
        return f"{self.place or '/'}: {self.rule}"


class GjeldsbroError(Exception):
    """Base of all errors below."""


class RetryableError(GjeldsbroError):
    """The same call may succeed later: the caller retries with back-off."""


class InstitutionUnavailableError(RetryableError):
    """An institution's server did not answer, or answered with 429 or 5xx, within the time given to it."""


class NoAnswerInTimeError(InstitutionUnavailableError):
    """It had not answered when the time was over; in more time it might have."""


class ReceiverUnavailableError(RetryableError):
    """A receiver's SFTP server could not be reached, or the connection was lost."""


class DeliveryBusyError(RetryableError):
    """Another run is just giving its package the name: it has until the end of its function to say how that went."""


class StoreUnavailableError(RetryableError):
    """DynamoDB, S3 or Secrets Manager throttled us or failed, after the client's own retries."""


class RevocationUnknownError(RetryableError):
    """Whether a client certificate was revoked cannot be told: its issuer's list is too old (503)."""


class TooManyRequestsError(RetryableError):
    """The caller has sent more requests than it may (429). ``retry_after``: seconds until it may send again."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"too many requests: send again in {retry_after} seconds")


class RefusedError(GjeldsbroError):
    """The other party must mend what it sent or how it is set up: the same call would fail again."""


class NotAuthenticatedError(RefusedError):
    """The client certificate is missing, names no organisation, or may not be used, or not any more (401)."""


class NotEntitledError(RefusedError):
    """The organisation is known, but may not do this (403)."""


class InvalidMessageError(RefusedError):
    """A message breaks rules of SPEC chapter 4.

    ``violations`` are the first of them in document order; ``total`` is how many there are in all.
    """

    def __init__(self, violations: Sequence[Violation], total: int | None = None) -> None:
        self.violations = tuple(violations)
        self.total = len(self.violations) if total is None else total
        text = "; ".join(str(violation) for violation in self.violations)
        hidden = self.total - len(self.violations)
        super().__init__(f"{text}; and {hidden} more" if hidden else text)


class MessageTooLargeError(RefusedError):
    """A message holds more than one push may hold (413): the sender splits it."""


class DatasetRefusedError(InvalidMessageError):
    """A dataset breaks a rule and is refused as a whole; what the register held stays in use."""


class AnswerRefusedError(InvalidMessageError):
    """An institution's answer about one customer breaks a rule, or it will not answer us; asking again is no use."""


class SsnListError(RefusedError):
    """An SSN list cannot be used. ``code`` is one of the contract's failure-report errors."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


class RevocationListError(RefusedError):
    """An authority's revocation list cannot be fetched or used; the last good one stays in use."""


class ReceiverRefusedError(RefusedError):
    """A receiver's server refused us, or is not the one we know. ``code`` names the step that failed."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


class OperatorError(GjeldsbroError):
    """Somebody of ours must act before this can succeed."""


class ConfigurationError(OperatorError):
    """A setting, secret, institution or receiver is missing or does not make sense."""


class DatasetBusyError(OperatorError):
    """Another run holds the lease of this dataset."""


class UnexpectedError(OperatorError):
    """A fault of ours. Its message names the original class only: the original text could hold personal data."""
