"""``gjeldsbro population``: shows what gjeldsbro_population did."""

import argparse

from gjeldsbro_operator.output import Result, Shown


def run(arguments: argparse.Namespace) -> Result:
    """Run one of the population's sub-commands."""
    value = arguments.command(arguments)
    tables = []
    if "datasets" in value:
        columns = ("Institution", "Provider", "Name", "Customers", "With loans", "Loans", "Pages")
        rows = [
            (
                dataset["financialInstitutionID"],
                dataset["providerID"],
                dataset["name"],
                dataset["customers"],
                dataset["customersWithLoans"],
                [f"{count} {kind}" for kind, count in dataset["loans"].items()],
                dataset.get("pages"),
            )
            for dataset in value["datasets"]
        ]
        tables.append(Shown("Datasets", columns, rows))
    others = {name: text for name, text in value.items() if name != "datasets"}
    return Result(value, tables, [f"{name}: {text}" for name, text in others.items()])
