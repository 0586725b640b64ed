import pytest
from pydantic import ValidationError

from gjeldsbro_population import Population, write_dataset
from gjeldsbro_simulator import Fault, FolderSource, ServedDataset, World


@pytest.fixture
def population():
    """A small population."""
    return Population(3, people=80, institutions=8)


def test_a_fault_is_read_from_a_command_line():
    """Kind, status and options come from one word; anything unknown is refused."""
    assert Fault.parse("status:429,times=2") == Fault(kind="status", status=429, times=2)
    assert Fault.parse("cut,page=1") == Fault(kind="cut", page=1)
    for wrong in ("sulk", "status:200", "cut,page", "cut,colour=red"):
        with pytest.raises(ValidationError):
            Fault.parse(wrong)


def test_a_fault_with_times_is_used_up(population):
    """After so many requests the institution behaves again, and another page does not use it up."""
    institution, _ = population.datasets[0]
    world = World(population)
    world.misbehave(institution, "cut,page=1,times=2")
    struck = [world.take_fault(world.dataset(institution), page) is not None for page in (0, 1, None, 1, 1)]
    assert struck == [False, True, False, True, False]


def test_a_foreign_institution_is_found_with_and_without_its_prefix(population):
    """SPEC appendix E drops the prefix of a foreign institution in the path."""
    foreign = population.institutions[6].institution
    world = World(population)
    assert world.dataset(foreign) == world.dataset(foreign.partition(":")[2])
    assert world.dataset("000000000") is None


def test_one_of_two_providers_is_chosen_by_its_id(population):
    """An institution with two providers has two datasets; the first one answers where no provider is named."""
    institution = population.institutions[5]
    world = World(population)
    chosen = [world.dataset(institution.institution, provider).provider for provider in institution.providers]
    assert tuple(chosen) == institution.providers
    assert world.dataset(institution.institution).provider == institution.providers[0]


def test_reset_brings_back_the_manners_of_the_start(population):
    """What was changed while it ran is forgotten."""
    institution, provider = population.datasets[0]
    world = World(population, [ServedDataset(institution=institution, provider=provider, page_size=7)])
    world.configure(institution, page_size=9, compression="gzip")
    world.misbehave(institution, "html")
    world.reset()
    assert world.datasets() == [ServedDataset(institution=institution, provider=provider, page_size=7)]
    with pytest.raises(KeyError):
        world.configure("000000000", page_size=1)


def test_a_folder_of_pages_is_a_source(population, tmp_path):
    """Datasets written to files are served as they were written, foreign institutions included."""
    for dataset in population.datasets:
        write_dataset(population, *dataset, tmp_path, page_size=10, numbers="integers")
    folder = FolderSource(tmp_path)
    assert set(folder.datasets) == set(population.datasets)
    for dataset in population.datasets:
        assert folder.count(*dataset) == population.count(*dataset)
        assert list(folder.customers(*dataset, 3, 12)) == list(population.customers(*dataset, 3, 12))
        customer_id = next(iter(population.customers(*dataset)))["customerID"]
        assert folder.customer(*dataset, customer_id) == population.customer(*dataset, customer_id)
        assert folder.customer(*dataset, "00000000000") is None
