"""The API's page in a real browser: all of it is there, it fits, and it asks nobody for anything."""

import json
import re

import pytest
from tests.browser import CHROMIUM, Browser, browser

from gjeldsbro_openapi.document import DOCUMENT
from gjeldsbro_openapi.page import PAGE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

DESKTOP, TABLET, PHONE = 1300, 820, 360
_OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.right > innerWidth + 1 && !element.closest('pre') && getComputedStyle(element).position !== 'absolute';
}).map(element => element.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[int, tuple[Browser, dict]]:
    """The page as it was shown in windows of several widths."""
    found = {}
    for width in (DESKTOP, TABLET, PHONE):
        with browser(tmp_path_factory.mktemp("chromium")) as shown:
            shown.open(PAGE.as_uri(), width=width)
            found[width] = {
                "text": shown.value("document.body.innerText"),
                "overflowing": shown.value(_OVERFLOWING),
                "scrolls": shown.value("document.documentElement.scrollWidth > innerWidth"),
                "dead": shown.value(
                    "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
                    ".filter(id => !document.getElementById(id))"
                ),
                "colours": shown.value("getComputedStyle(document.body).color"),
                "events": list(shown.events),
            }
    return found


def test_every_operation_is_shown_with_its_statuses(pages) -> None:
    """Each path with its method, and in its part of the page each status that the document has for it."""
    text = pages[DESKTOP]["text"]
    for path, methods in json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"].items():
        for method, operation in methods.items():
            assert re.search(rf"^{method.upper()}\s+{re.escape(path)}$", text, re.MULTILINE)
            part = re.split(rf"^{re.escape(operation['summary'])}$", text, flags=re.MULTILINE)[-1]
            for status in operation["responses"]:
                assert re.search(rf"^{status} \w", part, re.MULTILINE), (path, status)


@pytest.mark.parametrize("width", [DESKTOP, TABLET, PHONE])
def test_it_fits(pages, width: int) -> None:
    """Nothing sticks out on a screen or a phone but long lines of code, which scroll by themselves."""
    assert pages[width]["overflowing"] == []
    assert pages[width]["scrolls"] is False


def test_it_says_nothing_to_the_console_and_asks_nobody(pages) -> None:
    """No errors, no warnings, and no request but for the page itself."""
    for page in pages.values():
        methods = {event["method"] for event in page["events"]}
        assert not methods & {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        asked = {e["params"]["request"]["url"] for e in page["events"] if e["method"] == "Network.requestWillBeSent"}
        assert {url for url in asked if not url.startswith("data:")} == {PAGE.as_uri()}


def test_its_links_lead_somewhere(pages) -> None:
    """Each link within the page has a place to go to."""
    assert pages[PHONE]["dead"] == []
