"""Before an operator sees anything of a person, it is on the trail who looks, at what and why."""

from datetime import datetime
from typing import Protocol

from gjeldsbro.domain.customer_keys import HashKeys
from gjeldsbro.domain.identity_numbers import Accepts, customer_id_fault, mentions_a_person
from gjeldsbro.errors import InvalidMessageError, Violation


class Trail(Protocol):
    """The operators' trail."""

    def record_trail(self, *, who: str, action: str, subject: str, reason: str | None, now: datetime) -> None:
        """Record that somebody looked at something."""
        ...


def note_a_look(
    customer_id: str,
    *,
    trail: Trail,
    hash_keys: HashKeys,
    accepts: Accepts,
    action: str,
    operator: str,
    reason: str | None,
    now: datetime,
) -> None:
    """Record on the trail that an operator is about to see something of a customer.

    The trail names the customer by its keyed hash only. Raises InvalidMessageError when operator, reason or number is
    not given in its form.
    """
    if not operator.strip() or mentions_a_person(operator):
        raise InvalidMessageError([Violation("/operator", "must name who asks, without an identity number")])
    if reason is not None and (not reason.strip() or mentions_a_person(reason)):
        raise InvalidMessageError([Violation("/reason", "must not be empty nor hold an identity number")])
    if rule := customer_id_fault(customer_id, accepts):
        raise InvalidMessageError([Violation("/customerID", rule)])
    subject = f"customer {hash_keys.at(now).partition_of(customer_id)}"
    trail.record_trail(who=operator, action=action, subject=subject, reason=reason, now=now)
