"""How many events the history of one execution of the night can have: Step Functions ends an execution at 25,000."""

from typing import Any

from tests.cloudformation import definition, functions, states

from gjeldsbro.services.night import fetch, plan

LIMIT = 25_000

# The events that Step Functions writes: a task is entered, scheduled, started, has succeeded or failed, and is left;
# each retry is scheduled, started and ended once more; a choice and a pass are entered and left; a Map is entered,
# started, has succeeded and is left, and each of its iterations is started and has succeeded.
TASK, RETRY, CHOICE, PASS, MAP, ITERATION = 5, 3, 2, 2, 4, 2


def worst(state: dict[str, Any]) -> int:
    """The events of one visit of a task whose every retrier is used up."""
    return TASK + RETRY * sum(retrier["MaxAttempts"] for retrier in state["Retry"])


def test_the_history_of_a_group_has_room_for_its_slowest_night() -> None:
    """Every server as slow and as faulty as can be, every dataset failing in the end: still below the limit."""
    night = states(definition("NightlyFetchStateMachine"))
    lanes = night["For each institution"]["MaxConcurrency"] * night["For each dataset"]["MaxConcurrency"]
    timeout = functions()["FetchPagesFunction"]["Timeout"]
    # A fetch is called again only when less than a page's time is left; but for its first and last call.
    shortest = timeout - fetch.PAGE_SECONDS - fetch.RESERVE_SECONDS
    calls = lanes * (fetch.FETCH_HOURS * 3600 // shortest + 1) + plan.GROUP_SIZE
    fetches = calls * (worst(night["Fetch pages"]) + CHOICE)
    each = (
        worst(night["Record that the dataset was not fetched"])
        + worst(night["Judge the institution"])
        + worst(night["Record that the institution was not judged"])
        + worst(night["Load the dataset"])
        + worst(night["Record that the dataset was not loaded"])
        + 3 * (MAP + ITERATION + PASS)
        + CHOICE
        + PASS
    )
    assert fetches + plan.GROUP_SIZE * each + MAP + PASS < LIMIT
