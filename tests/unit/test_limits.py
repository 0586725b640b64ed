"""docs/limits.md: what AWS allows, and how much of it the design takes at the size of a whole country."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from functions.deliver_package.deliver_package import SPARE_MILLISECONDS as DELIVERY_SPARE
from functions.read_ssn_lists.read_ssn_lists import SPARE_MILLISECONDS as READING_SPARE
from tests.cloudformation import TEMPLATE, Deployed, definition, functions, resources, state_machines, states, template
from tests.documented_tests import TEST, missing_tests, rows_of
from tests.unit.test_night_history import CHOICE, ITERATION, LIMIT, MAP, PASS, worst

from gjeldsbro.adapters import announcements, data_store, kept_connections, register
from gjeldsbro.domain import fields
from gjeldsbro.domain.loans import CreditFacility, encode_loans
from gjeldsbro.domain.register import MAX_LOANS_BYTES
from gjeldsbro.domain.revocation import CHUNKS
from gjeldsbro.domain.search_messages import MAX_CO_BORROWERS
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.debt_lookup import LookupNotice
from gjeldsbro.services.export import loans, places, read_lists
from gjeldsbro.services.export.plan import plan_deliveries, plan_packages
from gjeldsbro.services.export.ports import ExportPartners, Store
from gjeldsbro.services.night import common, records
from gjeldsbro.services.night.plan import plan_night
from gjeldsbro.services.night.ports import NightRecords, Objects
from gjeldsbro.services.ports import Institution, Provider

INSTITUTIONS = 170
CUSTOMERS = 4_000_000
PAIRS = 10_000_000
LARGEST_LIST = 5_000_000
KIB = 1024

RUN = "r" * 80
"""The longest name that Step Functions takes for an execution."""
PROVIDER = "9908:" + "~" * 35
ORGANISATION = "920013015"
ARN = 150
"""Characters that a reference in the template may become: the longest ARNs here have about 120."""

CAUSE = 32_768
"""Characters of the longest cause of an error that Step Functions hands on."""


def test_every_limit_says_how_it_is_met_and_names_tests_that_exist() -> None:
    """A row has its value and what meets it; and a test, or the reason why there is none."""
    rows = rows_of("limits.md", "limit")
    assert len(rows) > 40
    for limit, value, ours, _, named in rows:
        assert value, limit
        assert ours, limit
        assert TEST.search(named) or named.startswith("none: "), f"{limit} names no test"
        assert missing_tests(named) == [], limit
    assert len({row[0] for row in rows}) == len(rows)


# What is deployed


def test_the_template_fits_what_cloudformation_takes() -> None:
    """Its size, and the number of its parts: SAM makes at most two more of an event, and three of the API."""
    found = template()["Resources"].values()
    events = sum(len(resource["Properties"].get("Events", ())) for resource in found)
    assert len(found) + 2 * events + 2 < 500
    assert TEMPLATE.stat().st_size < 1_000_000
    assert len(template()["Parameters"]) <= 200
    assert len(template()["Outputs"]) <= 200


def _length(document: Any) -> int:
    """Characters of a policy, each reference as long as it may become."""
    return len(re.sub(r"<[^<>]+>", "a" * ARN, json.dumps(document, separators=(",", ":"))))


def test_policies_fit_what_iam_and_kms_take() -> None:
    """All inline policies of a role together, a managed one, and the policy of a key, everything switched on."""
    deployed = Deployed(SubnetIds="s", SecurityGroupIds="s", DomainName="d", NotificationRoleArn="n" * ARN)
    of_role: dict[str, int] = {}
    for name in resources("AWS::IAM::Policy"):
        policy = deployed.properties(name)
        for role in policy["Roles"]:
            of_role[role] = of_role.get(role, 0) + _length(policy["PolicyDocument"])
    assert len(of_role) > 20
    assert max(of_role.values()) < 10_240
    for name in resources("AWS::IAM::ManagedPolicy"):
        assert _length(deployed.properties(name)["PolicyDocument"]) < 6_144
    for name in resources("AWS::KMS::Key"):
        assert _length(deployed.properties(name)["KeyPolicy"]) < 32_768


@pytest.mark.parametrize("function", functions())
def test_a_function_fits_what_lambda_takes(function: str) -> None:
    """Its variables, layers, time and memory."""
    properties = functions()[function]
    variables = Deployed().resolve(template()["Globals"]["Function"]["Environment"]["Variables"])
    length = sum(len(name) + len(re.sub(r"<[^<>]+>", "a" * ARN, str(value))) for name, value in variables.items())
    assert length < 4 * KIB
    assert len(properties["Layers"]) + 1 <= 5
    assert properties.get("Timeout", 3) <= 900
    assert properties["MemorySize"] <= 10_240


@pytest.mark.parametrize("machine", state_machines())
def test_a_definition_fits_what_step_functions_takes(machine: str) -> None:
    """Its size, its names, and how many iterations a Map works on at once."""
    text = json.dumps(definition(machine))
    assert len(re.sub(r"<[^<>]+>", "a" * ARN, text)) < 1_000_000
    for name, state in states(definition(machine)).items():
        assert len(name) <= 80
        if state["Type"] == "Map":
            distributed = state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
            assert 1 <= state["MaxConcurrency"] <= (10_000 if distributed else 40)
            assert len(state.get("Label", "")) <= 40
    assert template()["Parameters"]["MaxConcurrency"]["MaxValue"] <= 10_000


def test_the_dashboard_fits_what_cloudwatch_takes() -> None:
    """Widgets, metrics in one of them, and alarms in a widget of alarms."""
    widgets = json.loads(Deployed().properties("Dashboard")["DashboardBody"])["widgets"]
    assert len(widgets) <= 500
    for widget in widgets:
        assert len(widget["properties"].get("metrics", ())) <= 500
        assert len(widget["properties"].get("alarms", ())) <= 100


# What goes from state to state


class Places:
    """A bucket in memory, with as much of the stores' ways as planners use."""

    bucket = "b" * 63

    def __init__(self, **objects: Any) -> None:
        self.objects = objects

    def put_json(self, key: str, value: Any) -> None:
        """Keep a document."""
        self.objects[key] = value

    def get_json(self, key: str) -> Any:
        """A document."""
        return self.objects[key]

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix."""
        return (key for key in sorted(self.objects) if key.startswith(prefix))


def _night(institutions: list[Institution]) -> list[dict[str, Any]]:
    records = SimpleNamespace(institutions=lambda: institutions, put_run=lambda *_: None)
    places_of_run = Places()
    plan_night(
        RUN,
        "2026-11-22T05:10:00Z",
        {"fromScratch": True},
        records=cast("NightRecords", records),
        objects=cast("Objects", places_of_run),
        clock=lambda: datetime.now(UTC),
    )
    found: list[dict[str, Any]] = places_of_run.objects[common.manifest_key(RUN)]
    return found


def test_no_item_of_a_night_is_too_large() -> None:
    """All institutions behind one server, two providers each; and what steps add, the longest error included."""
    providers = (Provider(PROVIDER, "https://one"), Provider(PROVIDER[:-1] + "!", "https://one"))
    groups = _night([Institution(f"{number:09}", "FI", providers=providers) for number in range(INSTITUTIONS)])
    assert sum(len(group["institutions"]) for group in groups) == INSTITUTIONS
    largest = max(len(json.dumps(group)) for group in groups)
    assert largest + 2 * CAUSE < 256 * KIB


ON_BEHALF_OF = [f"{number:09}" for number in range(INSTITUTIONS)]


def _export(batches: int) -> Places:
    """A run for one receiver that asks on behalf of all institutions, with every list read and every slice built."""
    plan = {
        "run": RUN,
        "quarter": "2026-4",
        "month": 10,
        "year": 2026,
        "timestamp": "",
        "again": False,
        "reason": None,
        "deliveries": [[ORGANISATION, on_behalf_of] for on_behalf_of in ON_BEHALF_OF],
    }
    found = Places(**{places.plan_key(RUN): plan})
    for on_behalf_of in ON_BEHALF_OF:
        state = {"batches": batches, "phase": "reported"}
        found.put_json(f"{places.list_prefix(RUN, ORGANISATION, on_behalf_of)}state.json", state)
        prefix = places.package_prefix("2026-4", ORGANISATION, on_behalf_of, RUN)
        for number in range(batches):
            found.put_json(places.description_key(prefix, number), {})
    return found


def test_the_name_of_a_run_is_one_that_step_functions_takes() -> None:
    """As long as it takes and no longer: a run and its execution have one name."""
    records = cast("NightRecords", SimpleNamespace(institutions=list, put_run=lambda *_: None))
    objects, now = cast("Objects", Places()), lambda: datetime.now(UTC)
    plan_night(RUN, "2026-11-22T05:10:00Z", {}, records=records, objects=objects, clock=now)
    with pytest.raises(ConfigurationError):
        plan_night(RUN + "r", "2026-11-22T05:10:00Z", {}, records=records, objects=objects, clock=now)


def test_no_item_of_an_export_is_too_large() -> None:
    """One receiver for all institutions: its deliveries are one item; a batch is one by itself, however many."""
    store, partners = _export(3), cast("ExportPartners", SimpleNamespace(outcomes=lambda _: {}))
    plan_packages(run=RUN, partners=partners, store=cast("Store", store))
    assert len(store.objects[places.manifest_key(RUN, "batches")]) == 3 * INSTITUTIONS
    assert max(len(json.dumps(item)) for item in store.objects[places.manifest_key(RUN, "batches")]) < KIB
    plan_deliveries(run=RUN, partners=partners, store=cast("Store", store), now=datetime.now(UTC))
    (item,) = store.objects[places.manifest_key(RUN, "deliveries")]
    assert len(item["deliveries"]) == INSTITUTIONS
    assert len(json.dumps(item)) + 2 * CAUSE < 256 * KIB


def test_no_manifest_is_too_large() -> None:
    """Every pair of customer and institution in some list, in batches of a few thousand: far below 10 GB."""
    batches = PAIRS // read_lists.BATCH_SIZE + INSTITUTIONS
    item = {"run": RUN, "receiver": ORGANISATION, "onBehalfOf": ORGANISATION, "batch": batches}
    assert batches * len(json.dumps(item)) < 10 << 30


# The histories of executions; that of a group of institutions is counted in test_night_history.py


def test_the_history_of_a_receiver_has_room_for_days_of_reading() -> None:
    """A server so slow that a list takes days, each call tried as often as can be."""
    export = states(definition("QuarterlyExportStateMachine"))
    visit = worst(export["Read the SSN lists"]) + CHOICE
    rest = worst(export["Record that the lists were not read"]) + PASS
    shortest = functions()["ReadSsnListsFunction"]["Timeout"] - READING_SPARE / 1000
    days = (LIMIT - rest) // visit * shortest / 86_400
    assert days > template()["Parameters"]["ExportDeadlineDays"]["Default"]


def test_the_history_of_a_receiver_has_room_for_days_of_delivering() -> None:
    """Twenty packages on a server so slow that they take days; or one for each institution, each retry used up."""
    export = states(definition("QuarterlyExportStateMachine"))
    visit = worst(export["Deliver the package"]) + CHOICE
    each = worst(export["Record that the package was not delivered"]) + PASS + ITERATION
    shortest = functions()["DeliverPackageFunction"]["Timeout"] - DELIVERY_SPARE / 1000
    days = (LIMIT - MAP - PASS - 20 * each) // visit * shortest / 86_400
    assert days > template()["Parameters"]["ExportDeadlineDays"]["Default"]
    assert MAP + PASS + INSTITUTIONS * (visit + each) < LIMIT


def test_the_history_of_a_batch_has_room_for_days_of_asking() -> None:
    """One batch of numbers at institutions that answer slowly: each call works until little time is left."""
    export = states(definition("QuarterlyExportStateMachine"))
    visit = worst(export["Build the slice"]) + CHOICE
    rest = worst(export["Record that the slice was not built"]) + PASS
    kept_back = loans.TURN_SECONDS + loans.ANSWER_SECONDS + loans.RESERVE_SECONDS
    shortest = functions()["BuildSliceFunction"]["Timeout"] - kept_back
    days = (LIMIT - rest) // visit * shortest / 86_400
    assert days > template()["Parameters"]["ExportDeadlineDays"]["Default"]


# What is stored


def test_a_customer_with_all_that_is_allowed_fits_an_item() -> None:
    """As many loans as SPEC lets one institution report, each as long as it can be, and the item's other attributes."""
    large = CreditFacility(
        account_id="9" * 35,
        timestamp="2026-11-22T05:10:00.1234567Z",
        account_name="Å" * 35,
        credit_limit=10**12 - 1,
        interest_bearing_balance=10**12 - 1,
        non_interest_bearing_balance=10**12 - 1,
        nominal_interest_rate=10**6 - 1,
        installment_charges=10**12 - 1,
        co_borrower=2,
    )
    stored = encode_loans((large,) * fields.MAX_LOANS)
    assert len(stored) <= MAX_LOANS_BYTES
    others = sum(map(len, ("pk", "sk", "loans", "run", "v1#", "0" * 64, f"D#{ORGANISATION}#{PROVIDER}", RUN)))
    assert MAX_LOANS_BYTES + others < 400 * KIB
    assert register.BATCH_SIZE <= 25
    assert register.BATCH_SIZE * 400 * KIB <= 16 << 20


def test_transactions_are_small() -> None:
    """A revocation list with all its chunks, and the record of all persons of a lookup."""
    assert 1 + len(CHUNKS) <= 100
    assert 1 + MAX_CO_BORROWERS <= 100


def test_buckets_do_not_ask_for_a_key_with_each_object() -> None:
    """Of a dataset that is read a MiB at a time, each read would be a request to KMS."""
    for name in resources("AWS::S3::Bucket"):
        (rule,) = Deployed().properties(name)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["BucketKeyEnabled"] is True


def test_keys_of_objects_and_items_are_short() -> None:
    """The longest names in every place of a key."""
    job = common.Job(RUN, ORGANISATION, PROVIDER)
    package = places.package_prefix("2026-4", ORGANISATION, ORGANISATION, RUN)
    keys = [
        common.manifest_key(RUN),
        job.rows_key(99_999, "t" * 36),
        job.group_records_key(999, "t" * 36),
        f"{job.index_folder}{RUN}-{'t' * 36}",
        places.batch_key(RUN, ORGANISATION, ORGANISATION, 99_999),
        places.progress_key(RUN, ORGANISATION, ORGANISATION, 99_999),
        places.slice_key(package, 99_999, "d" * 64),
    ]
    assert max(len(key.encode()) for key in keys) < 1024
    sort_keys = [f"{ORGANISATION}#{PROVIDER}", f"P#{ORGANISATION}#{PROVIDER}#creditFacility#{'a' * 43}", RUN]
    assert max(map(len, sort_keys)) < 1024


def test_the_largest_object_has_parts_enough() -> None:
    """A dataset of the whole country, sixteen times as large a customer as usual; parts that S3 takes."""
    assert 5 << 20 <= data_store.PART_SIZE <= 5 << 30
    assert data_store.PART_SIZE * 10_000 > CUSTOMERS * 16 * KIB
    assert data_store._DELETE_AT_ONCE <= 1000


def test_the_longest_list_has_room_in_its_names() -> None:
    """Batches are numbered with five digits: more would come in another order."""
    assert LARGEST_LIST // read_lists.BATCH_SIZE < 100_000


# What is sent


def test_the_notices_of_a_lookup_fit_one_request() -> None:
    """As many persons as a lookup may name, each with the longest texts, go to EventBridge ten at a time."""
    text = "\N{PILE OF POO}" * 100
    notice = LookupNotice(
        customer_id="1" * 11,
        lookup_id="l" * 36,
        at="2026-11-22T05:10:00.1234567Z",
        lender=ORGANISATION,
        lender_name=text,
        on_behalf_of="o" * 40,
        reference=text,
        purpose=text,
        message=text,
        notice_required=True,
    )
    announced: list[Any] = []

    def put_events(Entries: list[Any]) -> dict[str, Any]:  # noqa: N803 - AWS's name
        announced.append(Entries)
        return {"FailedEntryCount": 0}

    kms = SimpleNamespace(encrypt=lambda **_: {"CiphertextBlob": b"c" * 400})
    speaking = announcements.Announcements(
        "bus", "k" * ARN, cast(Any, SimpleNamespace(put_events=put_events)), cast(Any, kms)
    )
    speaking.prepare(notice.lookup_id, [notice.customer_id])
    speaking.announce([notice] * (1 + MAX_CO_BORROWERS))
    assert [len(entries) for entries in announced] == [10, 1]
    assert max(len(json.dumps(entries).encode()) for entries in announced) < 256 * KIB


def test_what_functions_keep_open_fits_a_process() -> None:
    """Kept connections, files that are merged side by side, and the calls of AWS, of 1,024 descriptors."""
    assert kept_connections.MOST_KEPT + records.MERGE_WIDTH + register.CONCURRENCY < 1024


def test_at_most_four_requests_are_under_way_at_an_institution() -> None:
    """A group holds all institutions of a server: its lanes are what the server sees."""
    night = states(definition("NightlyFetchStateMachine"))
    assert night["For each institution"]["MaxConcurrency"] * night["For each dataset"]["MaxConcurrency"] == 4


def test_one_connection_is_open_at_a_receiver() -> None:
    """A receiver is one item, and its packages come one after the other."""
    export = states(definition("QuarterlyExportStateMachine"))
    assert export["For each package"]["MaxConcurrency"] == 1
