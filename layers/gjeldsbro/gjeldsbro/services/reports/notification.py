"""What the people on duty are told when a run has ended: in an e-mail, mostly read on a telephone."""

from collections.abc import Mapping
from typing import Any

from gjeldsbro.services.reports import wording
from gjeldsbro.services.reports.ports import Report

_MOST = 8
"""Subjects of a problem that are named; the page names all."""

_MAX_SUBJECT = 99
"""Of SNS, for e-mails: fewer than 100 characters."""


def notification(report: Report, record: Mapping[str, Any], *, bucket: str, region: str) -> tuple[str, str]:
    """Subject and text about a report. ``record`` is what is known of its run: where report and page are."""
    nightly = report["flow"] == "nightly"
    lines = [_title(report), "", report["sentence"]]
    for problem in report["problems"]:
        lines += ["", *_problem(problem, report, nightly=nightly)]
    lines += ["", "Figures", *(f"  {name}: {value}" for name, value in _figures(report, nightly=nightly))]
    lines += ["", *_links(report, record, bucket, region)]
    return _subject(report, nightly=nightly), "\n".join(lines) + "\n"


def _title(report: Report) -> str:
    what = "Night" if report["flow"] == "nightly" else f"Export of quarter {report['quarter']}"
    return f"{what} of {wording.day(report['startedAt'])}, stack {report['stack']}, run {report['run']}"


def _subject(report: Report, *, nightly: bool) -> str:
    """Short, plain ASCII, and first of all whether somebody must do something."""
    entries = report["datasets" if nightly else "deliveries"]
    at = report["startedAt"][:10]
    missed = sum(len(problem["subjects"]) for problem in report["problems"])
    what = f"night of {at}" if nightly else f"export {report['quarter']} of {at}"
    result = "all well" if report["good"] else f"{missed} of {len(entries)} need action"
    return f"{report['stack'][:30]}: {what}: {result}"[:_MAX_SUBJECT]


def _problem(problem: dict[str, Any], report: Report, *, nightly: bool) -> list[str]:
    by_subject = {entry_subject(entry): entry for entry in report["datasets" if nightly else "deliveries"]}
    lines = [f"{problem['title']} ({len(problem['subjects'])})"]
    for subject in problem["subjects"][:_MOST]:
        entry = by_subject[subject]
        nights = f", {wording.count(entry['missed'], 'night')} in a row" if entry.get("missed", 0) > 1 else ""
        lines.append(f"  - {entry['name'] or ''} ({' / '.join(subject.split('#'))}){nights}")
        lines.append(f"    {wording.reason(entry)}")
    hidden = len(problem["subjects"]) - _MOST
    if hidden > 0:
        lines.append(f"  and {wording.number(hidden)} more, in the report")
    lines.append(f"  {problem['means']}")
    for step in problem["steps"]:
        lines.append(f"  > {step['text']}")
        lines += [f"      {command}" for command in step["commands"]]
    lines.append(f"  Runbook: {problem['runbook']}")
    return lines


def entry_subject(entry: Mapping[str, Any]) -> str:
    """The name of a dataset or delivery in a report."""
    first, second = ("institution", "provider") if "provider" in entry else ("receiver", "onBehalfOf")
    return f"{entry[first]}#{entry[second]}"


def _figures(report: Report, *, nightly: bool) -> list[tuple[str, str]]:
    times = f"{wording.clock(report['startedAt'])}-{wording.clock(report['finishedAt'])} UTC"
    figures = [("Time", f"{times}, {wording.duration(report['seconds'])}")]
    counts = report["counts"]
    if nightly:
        figures += [
            ("Customers in use", wording.number(report["inUse"])),
            ("Customers written", wording.number(counts["written"])),
        ]
    else:
        figures += [
            ("Customers in packages", wording.number(counts["customers"])),
            ("Loans in packages", wording.number(counts["loans"])),
        ]
    return [*figures, ("Bytes fetched" if nightly else "Bytes delivered", wording.size(counts["bytes"]))]


def _links(report: Report, record: Mapping[str, Any], bucket: str, region: str) -> list[str]:
    group = "nightly" if report["flow"] == "nightly" else "export"
    lines = ["Report"]
    if record.get("pageKey") is None:
        lines.append("  The page could not be made: see UNEXPECTED_ERROR in the log of the report's function.")
    else:
        lines.append(f"  {page_link(record, bucket=bucket, region=region)}")
        lines.append(f"  s3://{bucket}/{record['pageKey']}")
    lines.append(f"  s3://{bucket}/{record['reportKey']}")
    lines.append(f"  gjeldsbro --stack {report['stack']} {group} report {report['run']} --output report.html")
    return lines


def page_link(record: Mapping[str, Any], *, bucket: str, region: str) -> str:
    """The page in the AWS console, where it opens for whoever may read the bucket."""
    return f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?region={region}&prefix={record['pageKey']}"
