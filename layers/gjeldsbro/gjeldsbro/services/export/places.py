"""Where the export keeps things in the data bucket, and how it names deliveries.

Everything of a run lies under the run's own prefixes, so that two runs never mix, and is deleted when the run ends.
"""


def run_prefix(run: str) -> str:
    """Working files of a run: its plan, lists and batches of numbers."""
    return f"runs/export/{run}/"


def plan_key(run: str) -> str:
    """The plan that all steps of a run share."""
    return f"{run_prefix(run)}plan.json"


def manifest_key(run: str, step: str) -> str:
    """The items of one of the run's maps."""
    return f"{run_prefix(run)}{step}.json"


def folder_key(run: str, receiver: str) -> str:
    """What was decided about a receiver's folder."""
    return f"{run_prefix(run)}{receiver}/folder.json"


def list_prefix(run: str, receiver: str, on_behalf_of: str) -> str:
    """A list on its way.

    ``state.json``, the copy's pieces, the batches of numbers, what was built of them, and what the report shows.
    """
    return f"{run_prefix(run)}{receiver}/{on_behalf_of}/"


def batch_key(run: str, receiver: str, on_behalf_of: str, batch: int) -> str:
    """One batch of a list's valid numbers."""
    return f"{list_prefix(run, receiver, on_behalf_of)}numbers/{batch:05d}"


def progress_key(run: str, receiver: str, on_behalf_of: str, batch: int) -> str:
    """What was built of a batch's slice when a call ended before it was complete."""
    return f"{list_prefix(run, receiver, on_behalf_of)}texts/{batch:05d}.json"


def package_prefix(quarter: str, receiver: str, on_behalf_of: str, run: str) -> str:
    """A package of a run: its slices and how far its delivery has come."""
    return f"packages/{quarter}/{receiver}/{on_behalf_of}/{run}/"


def slice_key(prefix: str, number: int, name: str | None = None) -> str:
    """The bytes of a slice; ``name`` says which bytes, and is None for slices of before they had one.

    A call that was given up may build a slice again, of what it sees by then. It writes beside the bytes that a sealed
    package is made of, never over them (decision record 0027).
    """
    return f"{prefix}slices/{number:05d}" + (f"-{name}" if name else "")


def slice_name(digest: str) -> str:
    """The name of the bytes with that SHA-256."""
    return digest[:16]


def description_key(prefix: str, number: int) -> str:
    """Which bytes a slice is, how many there are, and what they sum up to."""
    return f"{slice_key(prefix, number)}.json"


def subject(receiver: str, on_behalf_of: str) -> str:
    """The name of a delivery among a run's outcomes."""
    return f"{receiver}#{on_behalf_of}"
