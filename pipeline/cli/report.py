"""What a run did, in a few lines: the accounting, the tables, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from pipeline.job import RunReport


def print_report(report: RunReport, console: Console) -> None:
    """The end of `livelist run`."""
    accounting = report.accounting
    console.print(Text(accounting.as_line()), soft_wrap=True)
    lists = report.rows.get("recommendations", 0)
    per_second = accounting.input / report.seconds if report.seconds else 0.0
    took = f"{lists:,} lists in {report.seconds:.1f} s ({per_second:,.0f} records/s)"
    console.print(Text.assemble(took, ", tables in ", (report.output, "bold")), soft_wrap=True)
    rows = ", ".join(f"{table} {count:,}" for table, count in report.rows.items() if count)
    console.print(Text(f"rows: {rows}", "dim"), soft_wrap=True)
