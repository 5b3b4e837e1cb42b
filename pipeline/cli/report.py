"""What a run did, in a few lines: the accounting, the tables, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from models.accounting import Accounting
from models.errors import ERROR_CODES

if TYPE_CHECKING:
    from pipeline.job import RunReport

_NOT_JSON_LINES: Final = "; is it --format csv, amazon or movielens?"
#: Error code -> the format that is often meant where nothing else is found.
_FORMAT_HINTS: Final = {
    **dict.fromkeys(("invalid_json", "not_an_object", "invalid_utf8"), _NOT_JSON_LINES),
    "missing_field": "; is it --format amazon?",
}


def print_report(report: RunReport, console: Console) -> None:
    """The end of `livelist run`."""
    accounting = report.accounting
    console.print(Text(accounting.as_line()), soft_wrap=True)
    if notes := accounting.notes():
        console.print(Text(f"of these: {', '.join(notes)}", "dim"), soft_wrap=True)
    if accounting.input and not accounting.total("accepted."):
        console.print(Text(_nothing_accepted(accounting)), soft_wrap=True)
    per_second = accounting.input / report.seconds if report.seconds else 0.0
    took = f"{_lists(report)} in {report.seconds:.1f} s ({per_second:,.0f} records/s)"
    console.print(Text.assemble(took, ", tables in ", (report.output, "bold")), soft_wrap=True)
    if catalogue := accounting.catalogue_line():
        console.print(Text(catalogue), soft_wrap=True)
    for line in _canary(report):
        console.print(Text(line), soft_wrap=True)
    rows = ", ".join(f"{table} {count:,}" for table, count in report.rows.items() if count)
    console.print(Text(f"rows: {rows}", "dim"), soft_wrap=True)


def _lists(report: RunReport) -> str:
    """What was listed: current lists, and what else there is in the table of lists."""
    from pipeline.tables.reader import count_hindsight_and_tombstones

    written = report.rows.get("recommendations", 0)
    hindsight, tombstones = (
        count_hindsight_and_tombstones(report.output, report.run_id) if written else (0, 0)
    )
    told = f"{written - hindsight - tombstones:,} lists"
    if hindsight:
        told += f", {hindsight:,} in hindsight"
    return told + (f", {tombstones:,} tombstone{'s' * (tombstones > 1)}" if tombstones else "")


def _canary(report: RunReport) -> list[str]:
    """What the canary's scores came to, by the table of checks."""
    from models.canary import PREFIX, in_words
    from pipeline.tables.reader import read_checks

    return in_words(read_checks(report.output, PREFIX))


def _nothing_accepted(accounting: Accounting) -> str:
    code = accounting.commonest_reject()
    if code is None:
        return "nothing was accepted"
    known = ERROR_CODES[code]
    hint = _FORMAT_HINTS.get(code, "")
    why = f"{code}: {known.meaning}; {known.remedy}{hint}"
    return f"nothing was accepted, most often for {why} (`livelist validate` shows the lines)"
