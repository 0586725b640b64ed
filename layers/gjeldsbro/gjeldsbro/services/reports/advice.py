"""What people on duty read about an outcome that is not good: what it means, and what to do.

``runbook`` is the name of the runbook's section that says more. In a command, ``ID`` stands for whom it is about.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Advice(NamedTuple):
    """What to say of a kind of outcome. ``steps`` are sentences, each with the command that it speaks of, if any."""

    title: str
    means: str
    steps: tuple[tuple[str, str | None], ...]
    runbook: str


_FETCH = "gjeldsbro nightly run --institution ID --wait"
_DELIVER = "gjeldsbro export run --receiver ID --wait"
_CHECK = "gjeldsbro receiver check ID"

OF_DATASETS: Mapping[str, Advice] = {
    "ours": Advice(
        "Failed on our side",
        "A function of ours, or AWS, failed; the institution has nothing to do with it. The earlier data stays in use.",
        (
            ("Fetch again.", _FETCH),
            ("If it fails again, the function's log of that time says why.", None),
        ),
        "A dataset that failed",
    ),
    "setup": Advice(
        "Not set up rightly",
        "Something that operators set up is missing or does not fit: the reason says what. The earlier data stays "
        "in use.",
        (
            ("Mend what the reason names, mostly in the institution's file.", "gjeldsbro institution put FILE"),
            ("Fetch again.", _FETCH),
        ),
        "A dataset that failed",
    ),
    "unavailable": Advice(
        "Could not be fetched",
        "The institution's server did not answer, answered with an error of its own, or was too slow, several times. "
        "The earlier data stays in use.",
        (
            ("Call the institution's operations, unless they announced it.", None),
            ("When the server is back, fetch again. The next night tries by itself.", _FETCH),
        ),
        "A dataset that failed",
    ),
    "answer": Advice(
        "Refused: what came is no dataset",
        "The server answered, but not with a dataset: another status or format, or a body that cannot be read. The "
        "earlier data stays in use.",
        (
            (
                "Tell the institution's operations the reason. HTTP 401 or 403 is about our client certificate there.",
                None,
            ),
            ("When it is mended, fetch again.", _FETCH),
        ),
        "A dataset that is refused",
    ),
    "refused": Advice(
        "Refused: the data breaks a rule",
        "A dataset is taken as a whole or not at all, and in this one something is not as the specification says. The "
        "earlier data stays in use.",
        (
            ("Tell the institution the places and rules below; what stands there was not kept.", None),
            ("When it is mended, fetch again.", _FETCH),
        ),
        "A dataset that is refused",
    ),
    "held": Advice(
        "Held: far fewer customers than before",
        "More customers are gone than the institution's limit allows. Nothing of it was kept; the earlier data stays "
        "in use.",
        (
            ("Ask the institution whether that is right.", None),
            ("If it is, take it. If not, the next night tries by itself.", "gjeldsbro nightly release ID --wait"),
        ),
        "A dataset that is held",
    ),
    "busy": Advice(
        "Another run was at work on it",
        "Only one run works on a dataset at a time. What the other one does is in its own report.",
        (("See what has become of it.", "gjeldsbro nightly status"),),
        "A dataset that is busy",
    ),
}
"""Most urgent first."""

OF_DELIVERIES: Mapping[str, Advice] = {
    "ours": Advice(
        "Failed on our side",
        "A function of ours, or AWS, failed; the receiver has nothing to do with it. Nothing half is on its server.",
        (
            ("Export again: what was delivered is not delivered twice.", _DELIVER),
            ("If it fails again, the function's log of that time says why.", None),
        ),
        "A delivery that failed",
    ),
    "setup": Advice(
        "Not set up rightly",
        "Something that operators set up is missing or does not fit: the reason says what. Nothing was delivered.",
        (
            ("Mend what the reason names, mostly in the receiver's file.", "gjeldsbro receiver put FILE"),
            ("See that it works, then export again.", f"{_CHECK} && {_DELIVER}"),
        ),
        "A delivery that failed",
    ),
    "institution": Advice(
        "An institution did not answer",
        "An institution that is always asked gave no answer for a customer of the list. Nothing was delivered, rather "
        "than a package that lacks debt.",
        (
            ("Call the operations of the institution that the reason names.", None),
            ("When it answers again, export again.", _DELIVER),
        ),
        "A delivery that failed",
    ),
    "unreachable": Advice(
        "The receiver's server could not be reached",
        "The connection failed, or was lost, at several tries. Nothing half is on its server under the package's name.",
        (
            ("See from where the functions run what works.", _CHECK),
            ("Call the receiver's operations. When it works, export again.", _DELIVER),
        ),
        "A delivery that failed",
    ),
    "server": Advice(
        "The receiver's server refused us",
        "The server is there, but not as agreed: its host key, our login, the folder, or a right in it. Nothing was "
        "delivered.",
        (
            ("See which step fails.", _CHECK),
            ("Tell the receiver. A changed host key is asked for by telephone, never taken from the server.", None),
            ("When it works, export again.", _DELIVER),
        ),
        "A delivery that the server refuses",
    ),
    "list": Advice(
        "The receiver's list cannot be used",
        "The list of customers is missing or cannot be used. Nothing was delivered; a failure report on the server "
        "says so, where it could be written.",
        (
            ("Tell the receiver.", None),
            ("When the list is there, export again.", _DELIVER),
        ),
        "A delivery whose list is refused",
    ),
    "uncertain": Advice(
        "Not known whether it was delivered",
        "A function ended while it gave a package its name. Either it is there whole, or the one before is.",
        (
            ("Export again, which finds out.", _DELIVER),
            (
                "If it is still uncertain, ask the receiver; when it has no new package, deliver once more.",
                "gjeldsbro export run --receiver ID --again --reason 'not there' --wait",
            ),
        ),
        "A delivery that is uncertain",
    ),
    "superseded": Advice(
        "Another run took over",
        "Another export claimed the delivery while this one was at work. What it did is in its own report.",
        (
            ("See what has become of it.", "gjeldsbro export status"),
            ("If it was not delivered, export again.", _DELIVER),
        ),
        "A delivery that another run took over",
    ),
    "stray": Advice(
        "A list that nobody registered",
        "A list on the receiver's server names an organisation that the receiver is not registered for. No package was "
        "owed for it; a failure report on the server says the same.",
        (
            (
                "If there should be a package, add the organisation to the receiver's file.",
                "gjeldsbro receiver put FILE",
            ),
        ),
        "A delivery whose list is refused",
    ),
}
"""Most urgent first."""

_A_FEW = 6
"""Commands that are written out one by one."""

_POINTER = re.compile(r"(^| )/")
_SERVER = frozenset({"HOST_KEY", "LOGIN", "FOLDER", "READ", "WRITE", "RENAME", "READ_BACK"})
_STRAY = frozenset({"UNKNOWN_ORGANIZATION", "INVALID_ORGANIZATION_NUMBER"})
_BY_ERROR = {
    "ConfigurationError": "setup",
    "InstitutionUnavailableError": "unavailable",
    "NoAnswerInTimeError": "unavailable",
    "DatasetRefusedError": "answer",
    "DatasetBusyError": "busy",
}
_OF_DELIVERIES_BY_ERROR = {
    **dict.fromkeys(_SERVER, "server"),
    **dict.fromkeys(_STRAY, "stray"),
    "ConfigurationError": "setup",
    "InstitutionUnavailableError": "institution",
    "ReceiverUnavailableError": "unreachable",
    "ReceiverRefusedError": "server",
    "DeliveryBusyError": "superseded",
    "SUPERSEDED": "superseded",
    "UNCERTAIN": "uncertain",
}


def of_dataset(outcome: Mapping[str, Any]) -> str | None:
    """The key in OF_DATASETS of a night's outcome; None of a good one."""
    match outcome.get("status"):
        case "loaded" | "unchanged":
            return None
        case "held" | "busy" as code:
            return str(code)
        case "refused":
            places = [str(one.get("place", "")) for one in outcome.get("violations", ())]
            return "refused" if any(_POINTER.search(place) for place in places) else "answer"
    return _BY_ERROR.get(str(outcome.get("error", "")), "ours")


def of_delivery(outcome: Mapping[str, Any]) -> str | None:
    """The key in OF_DELIVERIES of an export's outcome; None of a good one."""
    status, error = outcome.get("status"), str(outcome.get("error", ""))
    if status in {"delivered", "already-delivered"}:
        return None
    return _OF_DELIVERIES_BY_ERROR.get(error, "list" if status == "refused" else "ours")


def problems(found: list[tuple[str | None, str, str]], advice: Mapping[str, Advice]) -> list[dict[str, Any]]:
    """What is not good, grouped by what to do about it, most urgent first.

    ``found``: the key of the advice (None is left out), the subject, and whom a command about it names. A command
    about a few comes once for each of them, ready to be run; about more, once for an ``ID`` of theirs.
    """
    grouped = []
    for code, one in advice.items():
        subjects = [subject for key, subject, _ in found if key == code]
        whom = list(dict.fromkeys(name for key, _, name in found if key == code))
        if subjects:
            grouped.append(
                {
                    "code": code,
                    "title": one.title,
                    "means": one.means,
                    "steps": [
                        {"text": text, "commands": _about(command, whom) if command else []}
                        for text, command in one.steps
                    ],
                    "runbook": one.runbook,
                    "subjects": subjects,
                }
            )
    return grouped


def _about(command: str, whom: list[str]) -> list[str]:
    about = whom if len(whom) <= _A_FEW else ["ID"]
    return list(dict.fromkeys(re.sub(r"\bID\b", name, command) for name in about))
