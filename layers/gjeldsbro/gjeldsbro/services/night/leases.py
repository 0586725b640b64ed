"""Who may work on a dataset: one run at a time, and of that run one invocation (decision record 0022).

An invocation takes the lease under a token of its own, and every change of the dataset's record asks for it. So one
that was given up (Step Functions lost the connection, and called again) changes the record no more once the next one
has begun. What it still writes to the register nobody can stop: so while that is possible the lease is *contested*, and
whoever ends the run's work leaves it in place for that long. No other run then writes what the first one could undo.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from secrets import token_hex

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import DatasetBusyError
from gjeldsbro.services.ports import Lease

LEASE_SECONDS = 25 * 60
"""The longest function (15 minutes) and twice five minutes, by which clocks may be off either way: while a function may
still be writing, its lease has not run out."""


def taken(held: Lease | None, run: str, now: datetime, seconds: int) -> Lease:
    """The lease of an invocation of ``run`` that begins now, after ``held``.

    Raises DatasetBusyError while another run has it.
    """
    at = from_datetime(now)
    until = from_datetime(now + timedelta(seconds=seconds))
    if held is None:
        return Lease(run, until, token_hex(8))
    if held.run != run and held.until >= at:
        raise DatasetBusyError("another run works on this dataset")
    others = [held.contested or "", held.until if held.token else ""]
    contested = max((time for time in others if time >= at), default=None)
    return Lease(run, max(until, contested or ""), token_hex(8), contested)


def rested(held: Lease) -> Lease:
    """The lease when the invocation has ended in order, and the run goes on with another."""
    return replace(held, token=None)


def released(held: Lease | None, now: datetime) -> Lease | None:
    """What is left of the lease at the end of the run's work: nothing, unless an earlier invocation may still write."""
    if held is None or held.contested is None or held.contested < from_datetime(now):
        return None
    return Lease(held.run, held.contested, None, held.contested)
