"""The cost model of a country: what grows with what, and that docs/costs.md shows what it says."""

import pytest
from tests.cloudformation import functions, resources
from tests.cloudformation import template as parsed
from tests.executions import snake

from gjeldsbro_cost import country, template
from gjeldsbro_cost.main import BUSY, FIRST, FULL, ORDINARY, PAGE, UNCHANGED, tables
from gjeldsbro_cost.rates import measured

RATES = measured()
SIZES = country.sizes()


def test_the_page_shows_what_the_model_says() -> None:
    """After a change of the design, of a price or of what was measured: python -m gjeldsbro_cost.main --record."""
    assert tables(RATES) in PAGE.read_text(encoding="utf-8")


def test_a_night_writes_what_changed() -> None:
    """Twice as many changes, twice as many items; none, and nothing of the register is written."""
    unchanged, ordinary, busy = (
        country.a_night(share, RATES, SIZES).flow.total() for share in (UNCHANGED, ORDINARY, BUSY)
    )
    assert unchanged.written == unchanged.deleted == 0
    assert busy.written + busy.deleted == pytest.approx(5 * (ordinary.written + ordinary.deleted), rel=0.01)


def test_what_does_not_change_costs_calls_and_reading_only() -> None:
    """A register twice as large costs less than twice as much on a night on which nothing changed."""
    once = country.a_night(UNCHANGED, RATES, SIZES)
    twice = country.a_night(UNCHANGED, RATES, [2 * size for size in SIZES])
    assert once.sum() < twice.sum() < 2 * once.sum()


@pytest.mark.parametrize("share", [UNCHANGED, ORDINARY, BUSY, FULL, FIRST], ids=lambda share: share.name)
def test_the_largest_institution_is_loaded_within_ten_minutes(share) -> None:
    """TECH-04 gives a whole dataset ten minutes; ours include its download at a moderate speed."""
    assert country.a_night(share, RATES, SIZES).largest < 600


def test_the_template_is_read_as_cloudformation_reads_it() -> None:
    """Memory and time of every function, found by their text."""
    for name, properties in functions().items():
        found = template.functions()[snake(name.removesuffix("Function"))]
        assert (found.memory, found.timeout) == (properties["MemorySize"], properties["Timeout"])
    assert template.how_many("AWS::KMS::Key") == len(resources("AWS::KMS::Key"))
    assert template.default("MaxConcurrency") == parsed()["Parameters"]["MaxConcurrency"]["Default"]
