"""Links in our documents lead to something: whoever is on duty at night follows them."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@cache
def anchors(document: Path) -> set[str]:
    """What GitHub makes of a document's headings."""
    headings = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in _HEADING.findall(document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_a_heading_in_it(document: Path) -> None:
    """Also when a section moves to another document, or gets another name."""
    lost = []
    for path, anchor in _LINK.findall(document.read_text()):
        target = document.parent / path if path else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            lost.append(f"{path}#{anchor}")
    assert lost == []


def test_the_readme_leads_to_every_document_for_people() -> None:
    """What is not linked is not found."""
    linked = {path for path, _ in _LINK.findall((ROOT / "README.md").read_text())}
    assert {f"docs/{document.name}" for document in (ROOT / "docs").glob("*.md")} <= linked
