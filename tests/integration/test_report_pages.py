"""The pages of reports in a real browser: they fit, can be read in the dark, print, and ask nobody for anything."""

import pytest
from tests.browser import CHROMIUM, browser
from tests.unit.report_world import export_of, night_reports

from gjeldsbro.pages import page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

DESKTOP, TABLET, PHONE = 1300, 820, 360
_OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.right > innerWidth + 1 && !element.closest('.unseen, thead');
}).map(element => element.outerHTML.slice(0, 80))
"""
_OVERLAPPING = """
[...document.querySelectorAll('svg[viewBox="0 0 400 150"]')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text.tick')].map(text => text.getBoundingClientRect());
  return boxes.slice(1).filter((box, index) => box.left < boxes[index].right + 1).map(() => svg.outerHTML.slice(0, 90));
})
"""
_FAINT = """
(() => {
  const parts = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(value => value / 255)
    .map(value => value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [.2126, .7152, .0722][index], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')].filter(element =>
    [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
    && element.tagName !== 'title'
  ).filter(element => {
    const style = getComputedStyle(element);
    const colour = light(parts(element.closest('svg') ? style.fill : style.color)), ground = light(behind(element));
    return (Math.max(colour, ground) + .05) / (Math.min(colour, ground) + .05) < 4.5;
  }).map(element => element.outerHTML.slice(0, 90));
})()
"""
_HIDDEN = "[...document.querySelectorAll('details li, details td')].filter(one => !one.checkVisibility()).length"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Both pages, as they were shown in windows of several widths, by day, in the dark and on paper."""
    folder = tmp_path_factory.mktemp("pages")
    files = {}
    for name, report in (("night", night_reports()[-1]), ("export", export_of(42))):
        files[name] = folder / f"{name}.html"
        files[name].write_text(page(report), encoding="utf-8")
    found = {}
    for name, file in files.items():
        for width in (DESKTOP, TABLET, PHONE):
            with browser(tmp_path_factory.mktemp("chromium")) as shown:
                shown.open(file.as_uri(), width=width)
                found[name, width] = {
                    "overflowing": shown.value(_OVERFLOWING),
                    "overlapping": shown.value(_OVERLAPPING),
                    "scrolls": shown.value("document.documentElement.scrollWidth > innerWidth"),
                    "text": shown.value("document.body.innerText"),
                    "by day": (shown.value("getComputedStyle(document.body).backgroundColor"), shown.value(_FAINT)),
                }
                dark = [{"name": "prefers-color-scheme", "value": "dark"}]
                shown.ask("Emulation.setEmulatedMedia", features=dark)
                ground = shown.value("getComputedStyle(document.body).backgroundColor")
                found[name, width]["in the dark"] = (ground, shown.value(_FAINT))
                shown.ask("Emulation.setEmulatedMedia", media="print", features=dark)
                paper = shown.value("getComputedStyle(document.body).backgroundColor")
                found[name, width] |= {"on paper": (paper, shown.value(_FAINT)), "hidden": shown.value(_HIDDEN)}
                found[name, width]["events"] = list(shown.events)
    return found


@pytest.mark.parametrize("width", [DESKTOP, TABLET, PHONE])
@pytest.mark.parametrize("name", ["night", "export"])
def test_it_fits(pages, name, width):
    """Nothing sticks out on a screen or a phone, and no label lies on another."""
    shown = pages[name, width]
    assert shown["overflowing"] == []
    assert shown["scrolls"] is False
    assert shown["overlapping"] == []


@pytest.mark.parametrize("name", ["night", "export"])
@pytest.mark.parametrize(
    ("when", "ground"),
    [("by day", "rgb(255, 255, 255)"), ("in the dark", "rgb(20, 24, 31)"), ("on paper", "rgb(255, 255, 255)")],
)
def test_it_can_be_read(pages, name, when, ground):
    """Every text has the contrast that WCAG asks for (4.5), on a ground that does not dazzle at night."""
    for width in (DESKTOP, PHONE):
        assert pages[name, width][when] == (ground, [])


@pytest.mark.parametrize("name", ["night", "export"])
def test_what_is_folded_away_is_printed(pages, name):
    """Paper cannot be unfolded: the table of nights and all places are on it."""
    assert pages[name, DESKTOP]["hidden"] == 0


def test_it_says_nothing_to_the_console_and_asks_nobody(pages):
    """No errors, no warnings, and no request but for the page itself."""
    for shown in pages.values():
        methods = {event["method"] for event in shown["events"]}
        assert not methods & {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        asked = {e["params"]["request"]["url"] for e in shown["events"] if e["method"] == "Network.requestWillBeSent"}
        assert len({url for url in asked if not url.startswith("data:")}) == 1


def test_a_phone_shows_what_needs_somebody_first(pages):
    """At 05:00 the first screen says whether there is anything to do, and the first problem follows at once."""
    text = pages["night", PHONE]["text"]
    assert text.index("8 were not") < 200
    assert text.index("What needs somebody") < text.index("All datasets", text.index("All datasets") + 1)
