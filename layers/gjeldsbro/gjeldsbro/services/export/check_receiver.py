"""Checks a receiver's server before it matters: connects, writes, reads back, renames, and cleans up."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.services.export.deliver import HIDDEN
from gjeldsbro.services.export.ports import Connect, ExportPartners, Folder

CHECKS = ("connect", "hostKey", "login", "folder", "write", "readBack", "rename")
"""In the order in which they are tried; after one that fails the others are not."""

OK = "ok"
NOT_TRIED = "not tried"
NOT_WANTED = "not wanted"

_STEPS = {"HOST_KEY": "hostKey", "LOGIN": "login", "FOLDER": "folder"}
_PROBE = b"gjeldsbro checks that it can write here.\n"


def check_receiver(*, receiver: str, partners: ExportPartners, connect: Connect) -> dict[str, Any]:
    """What works: ``{"receiver", "works", "checks": {check: "ok" or why not}}``.

    Raises ConfigurationError when there is no such receiver, or when our own record of it does not make sense.
    """
    found = partners.receiver(receiver)
    if found is None:
        raise ConfigurationError("there is no such receiver")
    checks = dict.fromkeys(CHECKS, NOT_TRIED)
    try:
        with connect(found) as folder:
            checks |= dict.fromkeys(("connect", "hostKey", "login"), OK)
            _try_folder(folder, checks, read_back=found.read_back)
    except ReceiverUnavailableError as exc:
        checks[_first_not_tried(checks)] = str(exc)
    except ReceiverRefusedError as exc:
        step = _STEPS.get(exc.code) or _first_not_tried(checks)
        checks |= {check: OK for check in CHECKS[: CHECKS.index(step)] if checks[check] == NOT_TRIED}
        checks[step] = exc.detail
    works = all(result in {OK, NOT_WANTED} for result in checks.values())
    return {"receiver": receiver, "works": works, "checks": checks}


def _try_folder(folder: Folder, checks: dict[str, str], *, read_back: bool) -> None:
    name = f"gjeldsbro-check-{uuid4().hex}"
    first, second = f"{name}-1.part", f"{name}-2.part"
    folder.files()
    checks["folder"] = OK
    try:
        folder.write(first, 0, [_PROBE])
        folder.write(second, 0, [_PROBE])
        checks["write"] = OK
        if not read_back:
            checks["readBack"] = NOT_WANTED
        elif folder.file(first) is None:
            checks["readBack"] = HIDDEN
        else:
            same = b"".join(folder.read(first, 0, len(_PROBE))) == _PROBE
            checks["readBack"] = OK if same else "what was written reads differently"
        folder.replace(first, second)
        checks["rename"] = OK
    finally:
        for probe in (first, second):
            with suppress(ReceiverRefusedError):  # a delivery does not need to remove anything
                folder.remove(probe)


def _first_not_tried(checks: dict[str, str]) -> str:
    return next((check for check in CHECKS if checks[check] == NOT_TRIED), CHECKS[-1])
