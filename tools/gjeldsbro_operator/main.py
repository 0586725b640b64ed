"""The command ``gjeldsbro``: its arguments, exit statuses and errors.

Exit status 0: what was asked for happened. 1: it did not; a line on standard error, or the table, says why. 2: the
command was not understood. 130: interrupted while waiting; a run that was started goes on.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.errors import GjeldsbroError
from gjeldsbro_operator import (
    dead_letters,
    export,
    hash_key,
    institutions,
    lenders,
    nightly,
    others,
    population,
    receivers,
    reports,
    revocations,
    watch,
)
from gjeldsbro_operator.files import InvalidFileError
from gjeldsbro_operator.output import Result, show
from gjeldsbro_operator.stack import Stack
from gjeldsbro_population.cli import add_commands as add_population_commands

STACK_VARIABLE = "GJELDSBRO_STACK"
"""Environment variable with the stack to work on when neither --stack nor --local is given."""

StackCommand = Callable[[Stack, argparse.Namespace], Result]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.stack and options.local:
        parser.error("--stack and --local exclude each other")
    if options.stack is None and not options.local:
        options.stack = os.environ.get(STACK_VARIABLE)
    try:
        result = _run(parser, options)
    except InvalidFileError as exc:
        return _fail(*exc.lines)
    except (GjeldsbroError, argparse.ArgumentTypeError, OSError) as exc:
        return _fail(str(exc))
    except ClientError as exc:
        error = exc.response["Error"]
        return _fail(f"{exc.operation_name}: {error.get('Code')}: {error.get('Message')}")
    except BotoCoreError as exc:
        return _fail(str(exc))
    except KeyboardInterrupt:
        return _fail("interrupted; a run that was started goes on", status=130)
    try:
        show(result, as_json=options.json)
    except BrokenPipeError:
        sys.stderr.close()
    return 0 if result.ok else 1


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Result:
    has_stack = options.local or options.stack

    def stack() -> Stack:
        return Stack(options.stack, local=options.local)

    match options.group:
        case "population":
            return population.run(options)
        case "check-list":
            return others.check_list(options, stack if has_stack else None)
    if not has_stack:
        parser.error(f"say which stack: --stack NAME (or {STACK_VARIABLE}), or --local")
    if options.group == "export" and options.action == "run" and options.again and not options.reason:
        parser.error("--again needs --reason")
    command: StackCommand = options.command
    return command(stack(), options)


def _fail(*lines: str, status: int = 1) -> int:
    for line in lines:
        print(f"gjeldsbro: {' '.join(line.split())}", file=sys.stderr)
    return status


def make_parser() -> argparse.ArgumentParser:
    """The whole command line. The global options may stand before or after the command."""
    parser = argparse.ArgumentParser(
        prog="gjeldsbro",
        description="Operate gjeldsbro: institutions, lenders, receivers, nightly fetches and quarterly exports.",
        epilog="Exit status: 0 what was asked for happened, 1 it did not, 2 the command was not understood.",
    )
    _add_globals(parser, default=None, switch=False)
    anywhere = argparse.ArgumentParser(add_help=False)
    _add_globals(anywhere, default=argparse.SUPPRESS, switch=argparse.SUPPRESS)
    why = argparse.ArgumentParser(add_help=False)
    why.add_argument("--reason", type=_reason, metavar="TEXT", help="why, for the trail")
    waits = argparse.ArgumentParser(add_help=False)
    waits.add_argument("--wait", action="store_true", help="wait until it has ended and show what it did")
    groups = parser.add_subparsers(dest="group", required=True, metavar="COMMAND")
    _add_institution(groups, anywhere, why, waits)
    _add_receiver(groups, anywhere, why)
    _add_lender(groups, anywhere, why)
    _add_revocation(groups, anywhere, why)
    _add_hash_key(groups, anywhere)
    _add_nightly(groups, anywhere, why, waits)
    _add_export(groups, anywhere, why, waits)
    _add_dead_letters(groups, anywhere, why)
    _add_watch(groups, anywhere)
    _add_others(groups, anywhere, why)
    people = groups.add_parser("population", help="make a synthetic population and datasets for tests")
    add_population_commands(people, parents=[anywhere])
    return parser


def _add_globals(parser: argparse.ArgumentParser, *, default: str | None, switch: bool | str) -> None:
    parser.add_argument("--stack", metavar="NAME", default=default, help=f"the deployed stack (or {STACK_VARIABLE})")
    parser.add_argument("--local", action="store_true", default=switch, help="the local stack of `make up`")
    parser.add_argument("--json", action="store_true", default=switch, help="machine-readable output")


type _Groups = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - the only name that it has


def _group(groups: _Groups, name: str, text: str) -> _Groups:
    return groups.add_parser(name, help=text).add_subparsers(dest="action", required=True, metavar="COMMAND")


def _add(
    group: _Groups, name: str, command: StackCommand, text: str, *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    parser = group.add_parser(name, help=text, description=text, parents=parents)
    parser.set_defaults(command=command)
    return parser


def _add_institution(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why, waits = parents
    group = _group(groups, "institution", "onboard, show or end an institution")
    put = _add(group, "put", institutions.put, "onboard an institution, or change it", anywhere, why)
    put.add_argument("file", type=Path, metavar="FILE", help="institution file (YAML)")
    _add(group, "list", institutions.show_all, "show all institutions", anywhere)
    text = "end an institution and withdraw its data"
    remove = _add(group, "remove", institutions.remove, text, anywhere, why, waits)
    remove.add_argument("id", metavar="ID", help="financialInstitutionID")


def _add_receiver(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why = parents
    group = _group(groups, "receiver", "onboard, show, check or end a receiver of packages")
    put = _add(group, "put", receivers.put, "onboard a receiver, or change it", anywhere, why)
    put.add_argument("file", type=Path, metavar="FILE", help="receiver file (YAML)")
    _add(group, "list", receivers.show_all, "show all receivers", anywhere)
    check = _add(group, "check", receivers.check, "connect to a receiver's server and say what works", anywhere, why)
    check.add_argument("id", metavar="ID", help="the receiver's organisation number")
    remove = _add(group, "remove", receivers.remove, "end a receiver", anywhere, why)
    remove.add_argument("id", metavar="ID", help="the receiver's organisation number")


def _add_lender(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why = parents
    group = _group(groups, "lender", "register, show or end an organisation that looks people up")
    put = _add(group, "put", lenders.put, "register a lender, or change it", anywhere, why)
    put.add_argument("file", type=Path, metavar="FILE", help="lender file (YAML)")
    _add(group, "list", lenders.show_all, "show all lenders", anywhere)
    remove = _add(group, "remove", lenders.remove, "end a lender", anywhere, why)
    remove.add_argument("id", metavar="ID", help="the lender's organisation number")
    text = "show who looked a person up; leaves a trail"
    person = _add(groups, "lookups", lenders.lookups, text, anywhere)
    person.add_argument("number", metavar="NUMBER", help="identity number, or - to read it from standard input")
    person.add_argument("--reason", type=_reason, metavar="TEXT", required=True, help="why, for the trail")


def _add_revocation(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why = parents
    group = _group(groups, "revocation", "the authorities' lists of revoked client certificates")
    text = "have an issuer's certificates checked, or change its list"
    put = _add(group, "put", revocations.put, text, anywhere, why)
    put.add_argument("file", type=Path, metavar="FILE", help="revocation file (YAML)")
    _add(group, "list", revocations.show_all, "show whose certificates are checked", anywhere)
    remove = _add(group, "remove", revocations.remove, "stop checking an issuer's certificates", anywhere, why)
    remove.add_argument("id", metavar="ID", help="the list's id, or the start of it")
    refresh = _add(group, "refresh", revocations.refresh, "fetch all lists now, or one", anywhere, why)
    refresh.add_argument("id", metavar="ID", nargs="?", help="only this one: its id, or the start of it")


def _add_hash_key(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    (anywhere,) = parents
    group = _group(groups, "hash-key", "the key of the keyed hash that stands for persons")
    _add(group, "status", hash_key.status, "show its versions, and what lies under each", anywhere)
    text = "make a new key, in force half an hour later"
    rotate = _add(group, "rotate", hash_key.rotate, text, anywhere)
    finish = _add(group, "finish", hash_key.finish, "retire old keys that are used no more", anywhere)
    for command in (rotate, finish):
        command.add_argument("--reason", type=_reason, metavar="TEXT", required=True, help="why, for the trail")


def _add_nightly(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why, waits = parents
    group = _group(groups, "nightly", "the nightly fetch of datasets")
    run = _add(group, "run", nightly.run, "start a fetch", anywhere, why, waits)
    run.add_argument("--institution", metavar="ID", help="only this one")
    run.add_argument(
        "--from-scratch",
        action="store_true",
        help="look what the register holds instead of trusting indexes and records, after a loss; needs --reason",
    )
    status = _add(group, "status", nightly.status, "show the last run of each dataset", anywhere)
    status.add_argument("--run", metavar="RUN", help="instead: what this run did")
    _add_report(group, reports.nightly, anywhere)
    text = "fetch a held institution again without the hold"
    release = _add(group, "release", nightly.release, text, anywhere, why, waits)
    release.add_argument("id", metavar="ID", help="financialInstitutionID")


def _add_export(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why, waits = parents
    group = _group(groups, "export", "the quarterly packages")
    run = _add(group, "run", export.run, "start an export", anywhere, why, waits)
    run.add_argument("--receiver", metavar="ID", help="only this one")
    run.add_argument("--quarter", type=_quarter, metavar="YYYY-Q", help="default: the quarter that the run falls in")
    run.add_argument("--again", action="store_true", help="deliver again what was delivered; needs --reason")
    status = _add(group, "status", export.status, "show the deliveries of a quarter", anywhere)
    status.add_argument("--quarter", type=_quarter, metavar="YYYY-Q", help="default: this quarter")
    _add_report(group, reports.export, anywhere)


def _add_report(group: _Groups, command: StackCommand, *parents: argparse.ArgumentParser) -> None:
    report = _add(group, "report", command, "show what a run has reported", *parents)
    report.add_argument("run", metavar="RUN", nargs="?", help="default: the last one that has ended")
    report.add_argument("--output", type=Path, metavar="FILE", help="write the report's page into this file")


def _add_dead_letters(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why = parents
    group = _group(groups, "dead-letters", "what could not be handed over")
    _add(group, "list", dead_letters.show_all, "show what could not be handed over, and why", anywhere)
    texts = {
        dead_letters.replay: "hand it over again, and delete what was taken",
        dead_letters.discard: "delete it: it need not happen any more",
    }
    for command, text in texts.items():
        parser = _add(group, command.__name__, command, text, anywhere, why)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("id", metavar="ID", nargs="?", help="the letter's id, or the start of it")
        which.add_argument("--all", action="store_true", help="all of them")


def _add_watch(groups: _Groups, anywhere: argparse.ArgumentParser) -> None:
    text = "show what needs somebody's action now; exit status 1 if anything does"
    _add(groups, "status", watch.status, text, anywhere)
    log = _add(groups, "log", watch.log, "show what a function has logged, oldest first", anywhere)
    log.add_argument("function", metavar="FUNCTION", help="its name as in functions/, for example plan_night")
    log.add_argument("--minutes", type=int, default=60, help="how far back (default 60)")
    log.add_argument("--filter", metavar="TEXT", help="only lines with this word, for example a run or an event")


def _add_others(groups: _Groups, *parents: argparse.ArgumentParser) -> None:
    anywhere, why = parents
    text = "show what the register holds of a person; leaves a trail"
    person = _add(groups, "show-customer", others.show_customer, text, anywhere, why)
    person.add_argument("number", metavar="NUMBER", help="identity number, or - to read it from standard input")
    text = "check an SSN list offline, as the export would"
    check = groups.add_parser("check-list", help=text, description=text, parents=[anywhere])
    check.add_argument("file", type=Path, metavar="FILE", help="the list")
    check.add_argument(
        "--accepts",
        choices=("production", "synthetic", "format"),
        help="which identity numbers are valid (default: as the stack says; without a stack, real and synthetic ones)",
    )
    group = _group(groups, "certificate", "our client certificate for calls to institutions")
    put = _add(group, "put", others.put_certificate, "store it, in place of the one before", anywhere, why)
    put.add_argument("certificate", type=Path, metavar="CERT", help="certificate chain (PEM)")
    put.add_argument("key", type=Path, metavar="KEY", help="its private key (PEM, without a passphrase)")
    trail = _add(groups, "trail", others.trail, "show who changed or looked at what, when and why", anywhere)
    trail.add_argument("--days", type=int, default=7, help="how far back (default 7)")


def _reason(text: str) -> str:
    """Whoever gives a reason gives one that can be read on the trail."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _quarter(text: str) -> Quarter:
    try:
        return Quarter.parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


if __name__ == "__main__":
    sys.exit(main())
