"""A synthetic population with debts, the same for the same seed, and what a register must say about it.

Nothing here imports the product: what ``expected_loans`` says is worked out from the population itself, so that tests
and the demo compare two independent answers. All persons are synthetic (month + 80), all organisations lie outside the
number series that are issued.
"""

from gjeldsbro_population.expectation import package_content
from gjeldsbro_population.institutions import SyntheticInstitution, make_institutions
from gjeldsbro_population.population import Changes, Population
from gjeldsbro_population.writers import Numbers, page, pages, ssn_list, write_dataset

__all__ = [
    "Changes",
    "Numbers",
    "Population",
    "SyntheticInstitution",
    "make_institutions",
    "package_content",
    "page",
    "pages",
    "ssn_list",
    "write_dataset",
]
