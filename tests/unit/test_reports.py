"""What reports of nights and exports say, and who is told."""

import json
import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.night_world import FI, PROVIDER, DiedError, World, people
from tests.unit.report_world import (
    FAULTS,
    LAST_NIGHT,
    NIGHTS,
    QUARTER,
    STACK,
    export_of,
    institutions,
    night_reports,
    no_faults,
    some_faults,
)

from gjeldsbro import errors
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.ports import Dataset
from gjeldsbro.services.reports import advice, wording
from gjeldsbro.services.reports.export import export_report
from gjeldsbro.services.reports.night import night_report
from gjeldsbro.services.reports.notification import notification
from gjeldsbro.services.reports.ports import Press
from gjeldsbro.services.reports.publish import earlier_reports, keep, tell
from gjeldsbro_operator.main import make_parser

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
ADVICE = [*advice.OF_DATASETS.values(), *advice.OF_DELIVERIES.values()]
RECORD = {"reportKey": "nightly/n.json", "pageKey": "nightly/n.html"}
THIN = "\N{NARROW NO-BREAK SPACE}"


def one_night(outcomes, *, institution=None, datasets=(), earlier=()):
    """The report of a night of these outcomes."""
    return night_report(
        "n",
        STACK,
        from_datetime(LAST_NIGHT),
        from_datetime(LAST_NIGHT + timedelta(minutes=31)),
        planned={"institution": institution},
        outcomes=outcomes,
        names={"920013015": "Testbanken AS"},
        datasets=datasets,
        earlier=earlier,
    )


def outcome(institution="920013015", **fields):
    """What became of an institution's dataset."""
    return {"institution": institution, "provider": f"9908:{institution}", "status": "loaded", **fields}


@pytest.fixture(scope="module")
def nights():
    """Five weeks of 170 institutions, of which the last night has every fault."""
    return night_reports()


# What happened, in one sentence


@pytest.mark.parametrize(
    ("statuses", "institution", "sentence"),
    [
        ([], None, "There was nothing to fetch."),
        (["loaded"], "920013015", "The dataset was taken, and 12 customers were written."),
        (["unchanged"], "920013015", "The dataset was taken, and nothing had changed."),
        (["loaded", "unchanged"], None, "All 2 datasets were taken, and 12 customers were written."),
        (["held"], "920013015", "The dataset was not taken: held. What was there before stays in use."),
        (
            ["loaded", "refused"],
            None,
            "1 of 2 datasets were taken, 1 was not: 1 refused. What was there before stays in use.",
        ),
        (
            ["busy", "failed", "failed", "held", "refused", "loaded"],
            None,
            "1 of 6 datasets were taken, 5 were not: 1 refused, 1 held, 2 failed, 1 busy. "
            "What was there before stays in use.",
        ),
    ],
)
def test_a_night_is_told_in_one_sentence(statuses, institution, sentence):
    """How many datasets were taken, what became of the others, and what readers see meanwhile."""
    found = [
        outcome(str(920013015 + index), status=status, written=12 if status == "loaded" else 0)
        for index, status in enumerate(statuses)
    ]
    assert one_night(found, institution=institution)["sentence"] == sentence


def test_an_export_is_told_in_one_sentence():
    """How many packages were delivered, of how many, and what became of the others."""
    assert export_of(40, faults=False)["sentence"] == f"All 40 packages of quarter {QUARTER} were delivered."
    assert export_of(40)["sentence"] == (
        f"34 of 39 packages of quarter {QUARTER} were delivered. 5 were not: 2 refused, 3 failed."
    )
    again = export_of(40, faults=False, again=True)
    assert again["sentence"] == (
        f"All 26 packages that were missing of quarter {QUARTER} were delivered; 14 had been delivered before."
    )


# What needs somebody


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_every_error_has_its_advice(kind):
    """Whatever a run ends with, people on duty read what it means and what to do."""
    failed = {"status": "failed", "error": kind.__name__}
    assert advice.of_dataset(failed) in advice.OF_DATASETS
    assert advice.of_delivery(failed) in advice.OF_DELIVERIES


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"status": "loaded"}, None),
        ({"status": "unchanged", "reason": "ended; its data stays"}, None),
        (FAULTS[0], "refused"),
        (FAULTS[1], "answer"),
        (FAULTS[2], "held"),
        (FAULTS[3], "unavailable"),
        (FAULTS[5], "ours"),
        (FAULTS[6], "busy"),
        ({"status": "failed", "error": "ConfigurationError"}, "setup"),
        ({"status": "failed", "reason": "it ended without an outcome"}, "ours"),
        ({"status": "refused", "violations": [{"place": "list /customers/3", "rule": "r"}]}, "refused"),
        ({"status": "refused", "violations": [{"place": "/customers/3", "rule": "r"}]}, "refused"),
    ],
)
def test_an_outcome_of_a_night_gets_the_advice_that_helps(found, code):
    """Who must act differs: the institution's developers or its operations, an operator of ours, or nobody."""
    assert advice.of_dataset(found) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("SSN_LIST_NOT_FOUND", "list"),
        ("NO_VALID_NUMBERS", "list"),
        ("HOST_KEY", "server"),
        ("READ_BACK", "server"),
        ("UNKNOWN_ORGANIZATION", "stray"),
    ],
)
def test_a_refused_delivery_gets_the_advice_that_helps(error, code):
    """A list is the receiver's affair, a server is checked from our side first, a stray list is no missed package."""
    assert advice.of_delivery({"status": "refused", "error": error}) == code


@pytest.mark.parametrize("one", ADVICE, ids=lambda one: one.title)
def test_advice_can_be_followed(one):
    """Each command is one that gjeldsbro understands, and the runbook has the section that is named."""
    headings = {line.lstrip("# ") for line in RUNBOOK.read_text().splitlines() if line.startswith("#")}
    assert one.runbook in headings
    for _, command in one.steps:
        for part in (command or "").replace("ID", "920013015").split(" && "):
            if part:
                name, *arguments = shlex.split(part)
                assert name == "gjeldsbro"
                make_parser().parse_args(arguments)


def test_what_needs_the_same_is_put_together_most_urgent_first(nights):
    """Three servers that do not answer are one matter; the commands come ready for each of them."""
    problems = nights[-1]["problems"]
    assert [problem["code"] for problem in problems] == [
        code for code in advice.OF_DATASETS if code in {"ours", "unavailable", "answer", "refused", "held", "busy"}
    ]
    (away,) = [problem for problem in problems if problem["code"] == "unavailable"]
    assert len(away["subjects"]) == 3
    (commands,) = [step["commands"] for step in away["steps"] if step["commands"]]
    assert [command.split()[4] for command in commands] == [subject.split("#")[0] for subject in away["subjects"]]


def test_a_command_about_many_is_written_once():
    """Forty lines of commands would hide the page: then it says ID."""
    found = [outcome(str(920013015 + index), status="held", reason="r") for index in range(40)]
    (problem,) = one_night(found)["problems"]
    assert problem["steps"][1]["commands"] == ["gjeldsbro nightly release ID --wait"]


def test_a_list_that_nobody_registered_makes_an_export_no_worse():
    """No package was owed for it: it is shown, and the run is good."""
    report = export_of(42)
    assert "stray" in {problem["code"] for problem in report["problems"]}
    assert sum(report["statuses"].values()) == len(report["deliveries"]) - 1


# What is in use, and since when


def test_it_is_counted_how_many_nights_an_institution_is_missing(nights):
    """Nine nights in a row are another matter than one; they are counted from the fetch whose data is in use."""
    missed = {entry["name"]: entry["missed"] for entry in nights[-1]["datasets"] if entry["missed"]}
    away = institutions()[40][2]
    assert missed.pop(away) == 9
    assert set(missed.values()) == {1}
    (entry,) = [one for one in nights[-1]["datasets"] if one["institution"] == institutions()[40][0]]
    assert entry["inUse"]["fetchedAt"] < nights[-9]["startedAt"]


def test_what_an_operator_fetched_meanwhile_ends_the_count():
    """Refused last night, fetched by hand at noon, refused again: that is one night without data, not two."""
    yesterday = one_night([outcome(status="refused")]) | {
        "startedAt": from_datetime(LAST_NIGHT - timedelta(days=1)),
    }
    noon = Dataset("920013015", "9908:920013015", fetch_start=from_datetime(LAST_NIGHT - timedelta(hours=17)))
    again = one_night([outcome(status="refused")], datasets=[noon], earlier=[yesterday])
    assert again["datasets"][0]["missed"] == 1
    assert one_night([outcome(status="refused")], earlier=[yesterday])["datasets"][0]["missed"] == 2


def test_customers_in_use_are_those_that_lookups_show(nights):
    """A refused dataset's customers of yesterday count, as readers see them."""
    report = nights[-1]
    assert report["inUse"] == sum(entry["inUse"]["customers"] for entry in report["datasets"])
    assert report["trend"]["nights"][-1]["customers"] == report["inUse"]


def test_the_trend_is_of_the_last_five_weeks(nights):
    """Nights, oldest first, and of each dataset a number for each of them."""
    trend = nights[-1]["trend"]
    assert [night["run"] for night in trend["nights"]] == [report["run"] for report in nights[-NIGHTS:]]
    assert {len(line) for line in trend["customers"].values()} == {NIGHTS}


def test_an_institution_that_was_withdrawn_keeps_its_name():
    """After its last night nobody knows it but the reports before."""
    before = one_night([outcome()])
    gone = night_report(
        "n2",
        STACK,
        from_datetime(LAST_NIGHT),
        from_datetime(LAST_NIGHT),
        planned={},
        outcomes=[outcome(withdrawn=True)],
        names={},
        datasets=[],
        earlier=[before],
    )
    assert gone["datasets"][0]["name"] == "Testbanken AS"
    assert gone["datasets"][0]["inUse"] is None


def test_an_export_says_what_is_still_to_come():
    """Also what no run has tried yet counts as missing in a quarter."""
    report = export_of(42)
    missed = {f"{one['receiver']}#{one['onBehalfOf']}" for one in report["deliveries"] if one["status"] != "delivered"}
    assert set(report["outstanding"]) == missed
    assert export_of(42, faults=False)["outstanding"] == []


def test_what_an_earlier_run_delivered_is_shown_with_its_figures():
    """A run for the rest shows the whole quarter, and counts only what it delivered itself."""
    report = export_of(40, faults=False, again=True)
    before = [one for one in report["deliveries"] if one["status"] == "already-delivered"]
    assert all(one["customers"] and one["deliveredAt"] for one in before)
    made = [one for one in report["deliveries"] if one["status"] == "delivered"]
    assert report["counts"]["customers"] == sum(one["customers"] for one in made)


# Where reports are kept


class Bucket:
    """The report bucket."""

    bucket = "reports"

    def __init__(self):
        self.stored = {}

    def put(self, key, data, content_type=""):
        """Store an object."""
        self.stored[key] = data

    def put_json(self, key, value):
        """Store a document."""
        self.put(key, json.dumps(value))

    def get_json(self, key):
        """A document."""
        return json.loads(self.stored[key])


class Records:
    """What the PartnerTable keeps of runs."""

    def __init__(self, **runs):
        self.kept = runs

    def run(self, flow, run):
        """One run."""
        return self.kept.get(run)

    def runs(self, flow, since):
        """The runs since a point in time."""
        return {run: kept for run, kept in self.kept.items() if kept["startedAt"] >= from_datetime(since)}

    def put_run(self, flow, run, values, now):
        """Store a run."""
        self.kept[run] = values


class Topic:
    """The topic; it can be broken."""

    region = "eu-north-1"

    def __init__(self, *, broken=False):
        self.said = []
        self.broken = broken

    def publish(self, subject, text):
        """Say something."""
        if self.broken:
            raise OSError("12345678901 must not get into a log")
        self.said.append((subject, text))


def test_earlier_reports_are_those_of_whole_nights(nights):
    """Left out are runs of one institution, unfinished ones, expired reports, other forms and other buckets."""
    bucket = Bucket()

    def kept(name, days, report=None, **values):
        at = from_datetime(LAST_NIGHT - timedelta(days=days))
        key = values.pop("key", f"nightly/{name}.json")
        if report is not None:
            bucket.put_json(key, report | {"run": name})
        return {"state": "finished", "startedAt": at, "reportKey": key, **values}

    records = Records(
        two=kept("two", 2, nights[0]),
        one=kept("one", 1, nights[0]),
        three=kept("three", 3, nights[0]),
        release=kept("release", 1, nights[0], whole=False),
        expired=kept("expired", 1),
        older=kept("older", 1, nights[0] | {"form": 0}),
        elsewhere=kept("elsewhere", 1, nights[0], key="reports/nightly/elsewhere.json"),
        ancient=kept("ancient", 40, nights[0]),
        running={"state": "running", "startedAt": from_datetime(LAST_NIGHT)},
        later=kept("later", -1, nights[0]),
    )
    before = from_datetime(LAST_NIGHT)
    found = earlier_reports(bucket, records, "nightly", before=before, days=35, most=34)
    assert [report["run"] for report in found] == ["three", "two", "one"]
    newest = earlier_reports(bucket, records, "nightly", before=before, days=35, most=1)
    assert [report["run"] for report in newest] == ["one"]


def test_a_page_that_cannot_be_made_keeps_no_run_open(nights, log_stream):
    """The report is kept as data, the log says why, and without what the page would have shown."""
    bucket = Bucket()

    def page(report):
        raise KeyError("12345678901")

    kept = keep(Press(bucket, page, STACK), nights[-1])
    assert kept.page is None
    assert list(bucket.stored) == [kept.report]
    assert "UNEXPECTED_ERROR" in log_stream.getvalue()
    assert "12345678901" not in log_stream.getvalue()


def test_advice_has_no_word_twice():
    """Its sentences are put together of pieces, over which the eye slips."""
    texts = [text for one in ADVICE for text in (one.title, one.means, *(text for text, _ in one.steps))]
    assert [text for text in texts if re.search(r"\b(\w+) \1\b", text)] == []


@pytest.mark.parametrize(
    ("started", "named"), [("2026-10-01T07:00:00Z", ""), ("2027-01-02T07:00:00Z", " --quarter 2026-4")]
)
def test_commands_about_a_late_export_name_its_quarter(started, named):
    """Without it they would deliver the packages of the quarter that has begun meanwhile."""
    failed = {"receiver": "920013015", "onBehalfOf": "985815534", "run": "x", "status": "failed", "error": "UNCERTAIN"}
    report = export_report(
        "x",
        STACK,
        "2026-4",
        started,
        started,
        outcomes=[failed],
        names={},
        lists={},
        attempts={},
        expected=(),
        quarters={"2026-4": {}},
    )
    (problem,) = report["problems"]
    commands = [command for step in problem["steps"] for command in step["commands"]]
    assert commands == [
        f"gjeldsbro export run{named} --receiver 920013015 --wait",
        f"gjeldsbro export run{named} --receiver 920013015 --again --reason 'not there' --wait",
    ]
    assert [make_parser().parse_args(shlex.split(command)[1:]).receiver for command in commands] == ["920013015"] * 2


def test_people_are_told_once(nights):
    """A step that is repeated after it had told everybody is silent."""
    bucket, topic = Bucket(), Topic()
    bucket.put_json("nightly/n.json", nights[-1])
    records = Records(n=dict(RECORD))
    for _ in range(2):
        assert tell("nightly", "n", store=bucket, records=records, topic=topic, now=LAST_NIGHT)
    assert len(topic.said) == 1
    assert records.kept["n"]["notifiedAt"] == from_datetime(LAST_NIGHT)
    assert records.kept["n"]["reportKey"] == "nightly/n.json"


def test_people_that_cannot_be_told_keep_no_run_open(nights, log_stream):
    """It is logged, without what could be anything, and the next try of the step tells them."""
    bucket, topic = Bucket(), Topic(broken=True)
    bucket.put_json("nightly/n.json", nights[-1])
    records = Records(n=dict(RECORD))
    assert not tell("nightly", "n", store=bucket, records=records, topic=topic, now=LAST_NIGHT)
    (line,) = [line for line in map(json.loads, log_stream.getvalue().splitlines()) if "NOT_SENT" in line["message"]]
    assert (line["message"], line["error"], line["run"]) == ("NOTIFICATION_NOT_SENT", "UnexpectedError", "n")
    assert line["reason"]
    assert "12345678901" not in log_stream.getvalue()
    topic.broken = False
    assert tell("nightly", "n", store=bucket, records=records, topic=topic, now=LAST_NIGHT)


def test_a_report_survives_death_after_every_write():
    """Report, page, record, deletion: whichever write was the last, the repeated step ends with the same report."""
    for writes in range(1, 12):
        world = World()
        world.serve(dict.fromkeys(people(5), 100))
        world.plan("n1")
        world.fetch("n1")
        world.judge("n1")
        world.load("n1")
        world.mortality.last = world.mortality.writes + writes
        try:
            answered = world.report("n1")
        except DiedError:
            world.mortality.last = None
            answered = world.report("n1")
        else:
            assert writes > 3
            break
        assert (answered["datasets"], answered["notLoaded"]) == (1, 0)
        assert world.reports.get_json("nightly/n1.json")["datasets"][0]["institution"] == FI
        assert b"</html>" in world.reports.stored["nightly/n1.html"]
        assert not list(world.objects.keys("runs/"))
        assert world.records.run_of["n1"]["pageKey"] == "nightly/n1.html"
    else:
        raise AssertionError("the report never came to its end")


def test_the_record_of_a_run_says_whether_it_was_a_whole_night():
    """A run about one institution is no night: neither trends nor alarms count it as one."""
    world = World()
    world.serve(dict.fromkeys(people(5), 100))
    world.night("n1")
    world.night("n2", institution=FI)
    assert [world.records.run_of[run]["whole"] for run in ("n1", "n2")] == [True, False]
    assert world.records.run_of["n2"]["institution"] == FI
    second = world.reports.get_json("nightly/n2.json")
    assert [night["run"] for night in second["trend"]["nights"]] == ["n1"]
    assert second["trend"]["customers"] == {f"{FI}#{PROVIDER}": [5]}


# What people are told


def test_the_notification_says_what_needs_action_and_where_to_read(nights):
    """The sentence, each problem with names, reasons and commands, and three ways to the report."""
    subject, text = notification(nights[-1], RECORD, bucket="reports", region="eu-north-1")
    assert subject == "gjeldsbro: night of 2026-11-22: 8 of 170 need action"
    assert nights[-1]["sentence"] in text
    for problem in nights[-1]["problems"]:
        assert f"{problem['title']} ({len(problem['subjects'])})" in text
        assert problem["means"] in text
    assert "9 nights in a row" in text
    assert "page 0: HTTP 503" in text
    assert "https://eu-north-1.console.aws.amazon.com/s3/object/reports?region=eu-north-1&prefix=nightly/n.html" in text
    assert "s3://reports/nightly/n.html" in text
    command = re.search(r"gjeldsbro --stack gjeldsbro nightly report .* --output report.html", text)
    assert command
    make_parser().parse_args(shlex.split(command[0])[1:])


def test_the_notification_of_a_quiet_night_is_short():
    """Nothing to do: that is in the subject, and the text fits a telephone."""
    report = night_reports(nights=2, went=no_faults)[-1]
    subject, text = notification(report, RECORD, bucket="reports", region="eu-north-1")
    assert subject == "gjeldsbro: night of 2026-11-22: all well"
    assert len(text.splitlines()) < 18


def test_the_notification_of_an_export_says_quarter_and_figures():
    """As of a night, with packages in place of datasets."""
    report = export_of(42)
    subject, text = notification(report, RECORD, bucket="reports", region="eu-north-1")
    assert subject == "gjeldsbro: export 2026-4 of 2026-10-01: 6 of 42 need action"
    assert f"Customers in packages: {wording.number(report['counts']['customers'])}" in text
    assert "the server's host key is not one of those that were agreed on" in text


@pytest.mark.parametrize("stack", ["g", "gjeldsbro-with-a-name-as-long-as-cloudformation-allows" * 2])
def test_a_subject_is_one_that_sns_takes(stack):
    """Fewer than 100 printable ASCII characters, whatever institutions and stacks are called."""
    for report in (night_reports(nights=1)[-1], export_of(42)):
        subject, _ = notification(report | {"stack": stack}, RECORD, bucket="b", region="r")
        assert re.fullmatch(r"[!-~][ -~]{0,98}", subject)


def test_a_notification_is_one_that_sns_takes():
    """A night in which every institution is away still fits: 256 KiB, with the page for the rest."""

    def all_away(*_):
        return FAULTS[0]

    _, text = notification(night_reports(nights=1, went=all_away)[-1], RECORD, bucket="b", region="r")
    assert len(text.encode()) < 256 << 10
    assert f"and {170 - 8} more, in the report" in text


def test_a_notification_without_a_page_says_so(nights):
    """Then the data is what there is."""
    _, text = notification(nights[-1], {**RECORD, "pageKey": None}, bucket="reports", region="eu-north-1")
    assert "The page could not be made" in text
    assert "s3://reports/nightly/n.json" in text


# Wording


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (wording.number(4512333), f"4{THIN}512{THIN}333"),
        (wording.count(1, "dataset"), "1 dataset"),
        (wording.count(2, "delivery", "deliveries"), "2 deliveries"),
        (wording.size(0), f"0{THIN}bytes"),
        (wording.size(999), f"999{THIN}bytes"),
        (wording.size(21_849), f"21.8{THIN}kB"),
        (wording.size(274_000_000), f"274{THIN}MB"),
        (wording.duration(42.4), f"42{THIN}s"),
        (wording.duration(1_640), f"27{THIN}min"),
        (wording.duration(7_500), f"2{THIN}h 5{THIN}min"),
        (wording.duration(7_200), f"2{THIN}h"),
        (wording.day("2026-12-31T23:30:00.0000000Z"), "Friday 1 January 2027"),
        (wording.moment("2026-11-22T05:05:00.1230000Z"), "22 Nov 05:05"),
        (wording.norwegian_clock("2026-07-01T05:05:00.0000000Z"), "07:05"),
        (wording.seconds_between("2026-07-01T05:05:00.0000000Z", "2026-07-01T05:04:00.0000000Z"), 0),
        (
            wording.reason({"error": "States.Timeout", "reason": "States.Timeout"}).partition(",")[0],
            "a function was ended before it was done",
        ),
        (
            wording.reason({"error": "SSN_LIST_EMPTY", "reason": "the receiver was told"}),
            "the list is empty; the receiver was told",
        ),
        (wording.reason({"error": "SSN_LIST_EMPTY"}), "the list is empty"),
        (wording.reason({"error": "HOST_KEY", "reason": "another key"}), "another key"),
        (wording.reason({}), "nothing is known of it"),
    ],
)
def test_figures_are_written_as_people_read_them(said, expected):
    """Groups of three digits, units, days and hours in Norway; a clock that went back takes no time."""
    assert said == expected


def test_the_reports_of_these_tests_are_deterministic():
    """The same seed gives the same report: what a picture shows can be compared."""
    assert night_reports(20, 3, some_faults) == night_reports(20, 3, some_faults)
