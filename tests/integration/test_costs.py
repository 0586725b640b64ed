"""The cost model against what the real functions ask of AWS: nights and an export of the same data."""

from collections import Counter
from pathlib import Path

import pytest
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField
from tests.country import Sizes, list_file, write
from tests.integration.flows import Story
from tests.integration.machines import Machine
from tests.rehearsal import RECEIVERS, rehearsal

from gjeldsbro_cost.export import export
from gjeldsbro_cost.night import Dataset, night
from gjeldsbro_cost.rates import Rates

SIZES = Sizes(customers=8_000, page=1_100, changed=10, asked=5_100)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory):
    """A first night, one with changes, one without, and an export: what was counted, and what the model says."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("stores")
    write(data, SIZES)
    found = {}
    with rehearsal(data, folder) as world:
        for number, (run, pages) in enumerate({"first": 0, "changed": 1, "unchanged": 1}.items()):
            tallies = world.night(run, pages)
            datasets = world.datasets(run, SIZES.page)
            _, records = world.register.weigh()
            rates = Rates(record_bytes=records / sum(dataset.stored for dataset in datasets))
            model = night([[[dataset]] for dataset in datasets], rates, earlier=number)
            found[run] = (tallies, world.transitions, model)
        tallies = world.export("export")
        lists = [_entries(list_file(data, receiver)) for receiver in RECEIVERS]
        packed = sum(outcome["bytes"] for outcome in world.outcomes("export").values())
        model = export(lists, Rates(packed_bytes=packed / sum(lists)), datasets=len(RECEIVERS))
        found["export"] = (tallies, world.transitions, model)
    return found


def _entries(file: Path) -> int:
    return file.read_text().count(",") + 1


@pytest.mark.parametrize("run", ["first", "changed", "unchanged", "export"])
def test_the_model_foretells_every_request(counted, run) -> None:
    """Each function's calls and requests, by operation and by table or bucket, are those of the real function."""
    tallies, _, model = counted[run]
    assert {name: tally.invocations for name, tally in tallies.items()} == {
        name: work.calls for name, work in model.works.items()
    }
    for function, tally in tallies.items():
        assert (function, tally.requests) == (function, +model.works[function].requests)


@pytest.mark.parametrize("run", ["first", "changed", "unchanged", "export"])
def test_the_model_foretells_the_transitions(counted, run) -> None:
    """The states that the executions entered, counted by walking the definitions."""
    _, transitions, model = counted[run]
    assert transitions == model.transitions


@pytest.mark.parametrize("run", ["first", "changed", "unchanged"])
def test_the_model_foretells_the_items(counted, run) -> None:
    """Items that were put and deleted; a night without changes writes none."""
    tallies, _, model = counted[run]
    counts, foretold = tallies["load_dataset"].counts, model.works["load_dataset"]
    assert (counts["put"], counts["deleted"]) == (foretold.written, foretold.deleted)
    assert run != "unchanged" or (foretold.written, foretold.deleted) == (0, 0)


@pytest.mark.parametrize("run", ["first", "changed", "export"])
def test_the_model_foretells_the_units(counted, run) -> None:
    """Write and read units, within a tenth: a few items are larger than a unit."""
    tallies, _, model = counted[run]
    written = sum(tally.counts["write units"] for tally in tallies.values())
    read = sum(tally.counts["read units"] for tally in tallies.values())
    assert written == pytest.approx(model.total().write_units, rel=0.1)
    assert read == pytest.approx(model.total().read_units, rel=0.1)


def test_moto_enters_the_states_that_the_model_counts(aws, monkeypatch) -> None:
    """A night of three institutions with a page, and of one with a list, all on one server: by another interpreter."""
    story, entered = Story(aws, monkeypatch), Counter()
    story.set_up()
    story.serve_first()
    evaluate = CommonStateField.eval

    def counting(state: CommonStateField, env: object) -> None:
        entered[state.name] += 1
        evaluate(state, env)

    monkeypatch.setattr(CommonStateField, "eval", counting)
    Machine("nightly_fetch", monkeypatch).run("night-1")
    one = Dataset(customers=6, stored=6, before=0, put=6, deleted=0, page=6)
    assert entered.total() == night([[[one]] * 4], Rates()).transitions
    execution = story.execution("nightly_fetch", "night-2")
    execution.run()
    assert execution.entered == entered
