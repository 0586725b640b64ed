"""The pages of reports: what is on them, whatever the report holds. How they look is seen in the browser's tests."""

import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from tests.unit.report_world import export_of, night_reports, no_faults

from gjeldsbro.pages import charts, page
from gjeldsbro.services.reports import wording

EVIL = '<script>alert("1")</script>&'


class Reader(HTMLParser):
    """Collects elements and text, and finds what is not closed in its order."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """An element begins."""
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """An element without content."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """An element ends: the one that began last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Text."""
        self.texts.append(data)


@pytest.fixture(scope="module")
def reports():
    """A night with faults, a quiet one, the very first, an export, and one for the rest of a quarter."""
    return {
        "night": night_reports()[-1],
        "quiet": night_reports(20, 3, no_faults)[-1],
        "first": night_reports(3, 1, no_faults)[-1],
        "empty": night_reports(0, 1)[-1],
        "export": export_of(42),
        "rest": export_of(40, faults=False, again=True),
        "nothing": export_of(0),
    }


KINDS = ["night", "quiet", "first", "empty", "export", "rest", "nothing"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_and_needs_nothing(reports, kind):
    """Well-formed, in English, without scripts, and without an address that a browser would fetch."""
    read = Reader(page(reports[kind]))
    tags = [tag for tag, _ in read.elements]
    assert tags.count("h1") == 1
    assert not {"script", "img", "iframe", "form", "object"} & set(tags)
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")]
        address = attributes.get("href", attributes.get("src", "#"))
        assert address.startswith(("#", "data:,")), (tag, address)
    assert "url(" not in page(reports[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_can_be_heard(reports, kind):
    """Each picture has a text, each table a caption and heads for rows and columns, and no heading is left out."""
    read = Reader(page(reports[kind]))
    for tag, attributes in read.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in {"row", "col"}
    tags = [tag for tag, _ in read.elements]
    assert tags.count("caption") == tags.count("table")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    identifiers = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = [attributes["href"] for tag, attributes in read.elements if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(identifiers)


def test_a_night_shows_every_dataset_and_every_problem(reports):
    """The sentence, each institution with its status, each reason, each place and each command."""
    report = reports["night"]
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page(report))))
    assert report["sentence"] in text
    for entry in report["datasets"]:
        assert entry["name"] in text
        assert entry["institution"] in text
        for violation in entry.get("violations", ()):
            assert violation["place"] in text
            assert violation["rule"] in text
    for problem in report["problems"]:
        assert problem["title"] in text
        assert f"Runbook: {problem['runbook']}" in text
        for step in problem["steps"]:
            assert all(command in text for command in step["commands"])
    assert "9 nights in a row" in text
    assert "212 in all" in text


def test_an_export_shows_every_delivery(reports):
    """Whose, for whom, how it ended, and its figures."""
    report = reports["export"]
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page(report))))
    assert report["sentence"] in text
    for entry in report["deliveries"]:
        assert entry["name"] in text
        assert entry["onBehalfOf"] in text
        if entry["status"] == "delivered":
            assert wording.number(entry["customers"]).replace("\N{NARROW NO-BREAK SPACE}", " ") in text
            assert wording.size(entry["bytes"]).replace("\N{NARROW NO-BREAK SPACE}", " ") in text
        else:
            assert wording.reason(entry) in text


@pytest.mark.parametrize("kind", ["night", "export"])
def test_whatever_a_report_holds_is_text(reports, kind):
    """Names and reasons come from files and servers of others: none of them can become part of the page."""

    def evil(value):
        match value:
            case dict():
                return {name: inner if name in KEPT else evil(inner) for name, inner in value.items()}
            case list():
                return [evil(inner) for inner in value]
            case str() if not re.match(r"\d{4}-\d\d-\d\dT", value):
                return value + EVIL
        return value

    html = page(evil(reports[kind]) | {"flow": reports[kind]["flow"]})
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    Reader(html)


KEPT = frozenset(
    {"trend", "status", "statuses", "code", "subjects", "institution", "provider", "receiver", "onBehalfOf"}
)


def test_the_first_night_has_no_pictures(reports):
    """One night is no trend: the page does without, instead of drawing a single dot."""
    assert charts.of(reports["first"]) == []
    assert "The last weeks" not in page(reports["first"])


def test_a_run_for_one_institution_says_so(reports):
    """It is no night, and what it did without the hold is seen at a glance."""
    html = page(reports["quiet"] | {"institution": "920013015", "hold": False})
    assert "fetch of one institution, 920013015" in html
    assert "without the hold" in html


@pytest.mark.parametrize("kind", ["night", "quiet", "export", "rest"])
def test_pictures_stay_in_their_frames(reports, kind):
    """Columns, dots and labels lie within the drawing, and each says what it shows."""
    found = charts.of(reports[kind])
    assert found
    for chart in found:
        assert chart.summary
        for bar in chart.bars:
            assert 0 <= bar.x <= bar.x + bar.width <= charts.WIDTH
            assert 0 <= bar.y <= bar.y + bar.height <= charts.HEIGHT
            assert bar.height > 0
            assert bar.title
        for x, y, title in chart.dots:
            assert 0 <= x <= charts.WIDTH
            assert 0 <= y <= charts.HEIGHT
            assert title
        assert all(0 <= label.y <= charts.HEIGHT for label in (*chart.rules, *chart.ticks))


def test_a_column_is_as_high_as_what_it_stands_for(reports):
    """The parts of a column add up, on the scale that the lines beside it name."""
    missed, *_ = charts.of(reports["night"])
    bottom, _, top = missed.rules
    newest = [bar for bar in missed.bars if bar.title.startswith("22 Nov")]
    height = sum(bar.height for bar in newest)
    assert height / (bottom.y - top.y) == pytest.approx(8 / float(top.text), abs=0.02)
    assert [bar.kind for bar in newest] == ["refused", "held", "failed", "busy"]


def test_a_small_change_does_not_look_like_a_large_one():
    """A line of customers that change by a thousandth is nearly flat."""
    line = charts.sparkline([10_000, 10_010, 10_000, 10_005])
    assert line is not None
    heights = [float(point.split(" ")[1]) for point in re.split("[ML]", line.path)[1:]]
    assert max(heights) - min(heights) < line.height / 4


@pytest.mark.parametrize("values", [(), (None, None), (None, 5), (5,)])
def test_one_number_is_no_line(values):
    """Nothing is drawn of an institution that was there for one night."""
    assert charts.sparkline(values) is None


def test_a_line_leaves_out_nights_of_which_nothing_is_known():
    """A gap is bridged, and the place of each night stays its own."""
    whole, gap = charts.sparkline([5, 6, 7]), charts.sparkline([5, None, 7])
    assert whole is not None
    assert gap is not None
    assert gap.end == whole.end
    assert gap.path.count("L") == 1
    assert charts.sparkline([0, 0]) is not None
