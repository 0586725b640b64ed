"""``gjeldsbro population``: synthetic datasets, SSN lists and institution files for tests."""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from gjeldsbro_population.institutions import SyntheticInstitution
from gjeldsbro_population.population import FIRST_EXTRACTION, Population
from gjeldsbro_population.writers import folder_name, ssn_list, write_dataset

Command = Callable[[argparse.Namespace], dict[str, Any]]


def add_commands(parser: argparse.ArgumentParser, parents: Sequence[argparse.ArgumentParser] = ()) -> None:
    """Give ``parser`` the sub-commands. Each sets ``command``: called with the arguments, it returns what it did.

    ``parents`` hold options that every sub-command takes.
    """
    commands = parser.add_subparsers(dest="population_command", required=True, metavar="COMMAND")
    who = argparse.ArgumentParser(add_help=False)
    who.add_argument("--seed", type=int, default=1, help="decides everything; the same seed gives the same population")
    who.add_argument("--people", type=_positive, default=1000, help="number of persons (default 1000)")
    who.add_argument("--institutions", type=_positive, default=8, help="number of institutions (default 8)")
    who.add_argument("--night", type=_positive, default=1, help="2 or later: the population that many nights on")
    who.add_argument("--percent", type=float, default=1, help="how much each later night changes (default 1)")
    who.add_argument(
        "--extracted-at",
        type=moment,
        default=FIRST_EXTRACTION,
        metavar="TIME",
        help="when the first night's datasets were extracted, ISO 8601 with offset (default 2026-01-05T01:30:00Z)",
    )

    describe = commands.add_parser(
        "describe", parents=[who, *parents], help="say who is in the population, without numbers"
    )
    describe.set_defaults(command=_describe)

    datasets = commands.add_parser(
        "datasets",
        parents=[who, *parents],
        help="write every institution's dataset as JSON pages, and its institution file",
        description="Writes {out}/{institution}/{provider}/{page}.json (a colon becomes a hyphen) and, with --url, "
        "{out}/institution-{institution}.yaml for `gjeldsbro institution put`.",
    )
    datasets.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write")
    datasets.add_argument("--page-size", type=_positive, default=None, help="customers a page (default: one page)")
    datasets.add_argument("--numbers", choices=("strings", "padded", "integers"), default="strings")
    datasets.add_argument("--url", help="base URL of the server that will serve them, up to and including /v1")
    datasets.set_defaults(command=_datasets)

    numbers = commands.add_parser(
        "ssn-list", parents=[who, *parents], help="write an SSN list of the population's numbers"
    )
    numbers.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write, e.g. 920013015.txt")
    numbers.add_argument("--count", type=_positive, default=None, help="how many numbers (default: all)")
    numbers.add_argument("--invalid", type=_natural, default=0, help="numbers with a wrong check digit to add")
    numbers.add_argument("--duplicates", type=_natural, default=0, help="numbers to list a second time")
    numbers.set_defaults(command=_ssn_list)


def _population(arguments: argparse.Namespace) -> Population:
    population = Population(
        arguments.seed, arguments.people, arguments.institutions, extracted_at=arguments.extracted_at
    )
    for night in range(2, arguments.night + 1):
        population = population.changed(night, arguments.percent)
    return population


def _describe(arguments: argparse.Namespace) -> dict[str, Any]:
    population = _population(arguments)
    several = Counter(len(population.expected_loans(number)) for number in population.customer_ids)
    return {
        "people": population.people,
        "night": population.night,
        "peopleByInstitutionsWithDebt": {str(count): several[count] for count in sorted(several)},
        "datasets": [_about(population, institution, provider) for institution, provider in _datasets_of(population)],
    }


def _datasets_of(population: Population) -> list[tuple[SyntheticInstitution, str]]:
    return [(institution, provider) for institution in population.institutions for provider in institution.providers]


def _about(population: Population, institution: SyntheticInstitution, provider: str) -> dict[str, Any]:
    kinds = Counter(
        loan["type"]
        for customer in population.customers(institution.institution, provider)
        for loan in customer["loans"]
    )
    return {
        "financialInstitutionID": institution.institution,
        "providerID": provider,
        "name": institution.name,
        "customers": population.count(institution.institution, provider),
        "customersWithLoans": population.count_with_loans(institution.institution, provider),
        "loans": dict(sorted(kinds.items())),
    }


def _datasets(arguments: argparse.Namespace) -> dict[str, Any]:
    population = _population(arguments)
    written = []
    for institution, provider in _datasets_of(population):
        files = write_dataset(
            population,
            institution.institution,
            provider,
            arguments.out,
            page_size=arguments.page_size,
            numbers=arguments.numbers,
        )
        written.append({**_about(population, institution, provider), "pages": len(files)})
    if arguments.url:
        for institution in population.institutions:
            file = arguments.out / f"institution-{folder_name(institution.institution)}.yaml"
            file.write_text(institution_file(institution, arguments.url), encoding="utf-8")
    return {"folder": str(arguments.out), "night": population.night, "datasets": written}


def institution_file(institution: SyntheticInstitution, url: str, ca_file: str | None = None) -> str:
    """The institution file (contract) of an institution whose providers are all served by the simulator at ``url``.

    Where it has several providers, each gets the simulator's address of its own.
    """
    providers: list[dict[str, str]] = []
    for provider in institution.providers:
        base = url.rstrip("/")
        if len(institution.providers) > 1:
            base = base.replace("/debt-information/", f"/{provider}/debt-information/")
        providers.append({"providerID": provider, "url": base} | ({"caFile": ca_file} if ca_file else {}))
    document = {
        "financialInstitutionID": institution.institution,
        "name": institution.name,
        "providers": providers,
    }
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False)


def _ssn_list(arguments: argparse.Namespace) -> dict[str, Any]:
    numbers = Population(arguments.seed, arguments.people, arguments.institutions).customer_ids[: arguments.count]
    if max(arguments.invalid, arguments.duplicates) > len(numbers):
        raise argparse.ArgumentTypeError("more invalid or duplicate numbers than numbers in the list")
    arguments.out.write_bytes(
        ssn_list(numbers, invalid=arguments.invalid, duplicates=arguments.duplicates, seed=arguments.seed)
    )
    return {
        "file": str(arguments.out),
        "numbers": len(numbers),
        "invalid": arguments.invalid,
        "duplicates": arguments.duplicates,
    }


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("not a whole number above 0")
    return int(text)


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("not a whole number")
    return int(text)


def moment(text: str) -> datetime:
    """An aware point in time, for argparse: ISO 8601 with an offset."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not an ISO 8601 date and time") from None
    if parsed.tzinfo is None:
        raise argparse.ArgumentTypeError("a time needs an offset, such as Z")
    return parsed.astimezone(UTC)
