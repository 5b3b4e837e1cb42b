"""The demo on a screen: two lists side by side, what left, what came and why."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.demo_story import DemoFiles, Said, left_and_came
from pipeline.tables.titles import titles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.records import RankedItem
    from pipeline.cli.why import Explainer
    from pipeline.job import RunReport


def show_start(console: Console) -> None:
    """What is about to happen."""
    console.print(
        "[bold]livelist[/] runs on a sample: real reviews (CC0) in a simulated shop with simulated people.\n"
        "Then three of them say one more thing each, in words and without stars, and the job runs again."
    )


def show_person(console: Console, said: Said, files: DemoFiles, explainer: Explainer) -> None:
    """One person's words, and her list before and after."""
    title = titles_of(files.after)
    before, after = read_list(files.before, said.user_id), read_list(files.after, said.user_id)
    left, came = left_and_came(before, after)
    about = said.about.format(title=_lower(title(said.item_id)) if said.item_id else "")
    console.print(f"\n[bold cyan]{said.user_id}[/] {about}:")
    console.print(Text(f"  “{said.text}”", "bold"))
    console.print(Text(f"  {read_as(files.after, said)}", "dim"))
    console.print(_side_by_side(before, after, title))
    console.print(_changes(said, left, came, after[-1].score, title, explainer))


def _changes(
    said: Said,
    left: Sequence[RankedItem],
    came: Sequence[RankedItem],
    last_score: float,
    title: Callable[[str], str],
    explainer: Explainer,
) -> Table:
    """What left, what came, and why."""
    changes = Table.grid(padding=(0, 2))
    changes.add_column()
    changes.add_column(max_width=34)
    outranked = []
    for item in left:
        lost = explainer.lost_support(said.user_id, item, said.item_id)
        if lost and said.item_id:
            why = f"It rested on the {_lower(title(said.item_id))} ({lost:+.2f})"
            changes.add_row(Text("  left", "red"), title(item.item_id), Text(why, "dim"))
        else:
            outranked.append(title(item.item_id))
    if outranked:
        why = f"Outranked: the last place now has a score of {last_score:.2f}"
        changes.add_row(Text("  left", "red"), ", ".join(outranked), Text(why, "dim"))
    for item in came:
        changes.add_row(Text("  came", "green"), title(item.item_id), Text(why_listed(item), "dim"))
    return changes


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _side_by_side(
    before: Sequence[RankedItem], after: Sequence[RankedItem], title: Callable[[str], str]
) -> Table:
    """Both lists, with what left marked - and what came marked +."""
    left, came = left_and_came(before, after)
    table = Table(box=None, padding=(0, 1, 0, 2), header_style="dim")
    table.add_column("")
    for name in ("  before", "  now"):
        table.add_column(name, min_width=34)
    for rank in range(max(len(before), len(after))):
        old = _cell(before, rank, left, ("- ", "red"), title)
        table.add_row(Text(str(rank + 1), "dim"), old, _cell(after, rank, came, ("+ ", "bold green"), title))
    return table


def _cell(
    items: Sequence[RankedItem],
    rank: int,
    changed: Sequence[RankedItem],
    mark: tuple[str, str],
    title: Callable[[str], str],
) -> Text:
    if rank >= len(items):
        return Text("")
    item = items[rank]
    sign, style = mark if item in changed else ("  ", "")
    return Text(sign + title(item.item_id), style)


def read_list(tables: Path, user_id: str) -> tuple[RankedItem, ...]:
    """A person's current list, from the tables."""
    from pipeline.tables.reader import read_latest

    return read_latest(str(tables), user_id).items


def why_listed(item: RankedItem) -> str:
    """The strongest reason that cites feedback, if any does."""
    reasons = [reason for reason in item.reasons if reason.event_ids] or item.reasons
    text, contribution = reasons[0].text, reasons[0].contribution
    return f"{text} ({contribution:+.2f})" if contribution else text


def read_as(tables: Path, said: Said) -> str:
    """What the encoder read in the words, from `scored_feedback/`."""
    import pyarrow.parquet as pq

    found = pq.read_table(
        tables / "scored_feedback",
        columns=["polarity", "intensity", "topics", "intent"],
        filters=[("event_id", "=", said.event_id), ("user_id", "=", said.user_id)],
        partitioning=None,
    ).to_pylist()
    if not found:
        return "not scored"
    row = found[0]
    topics = ", ".join(topic["name"] for topic in (row["topics"] or [])[:2])
    told = [f"polarity {row['polarity']:+.2f}", topics, row["intent"]]
    return "read as " + "; ".join(part for part in told if part)


def show_end(console: Console, report: RunReport, files: DemoFiles, seconds: float) -> None:
    """The accounting, where the tables are, and what to try next."""
    latest = f"{files.after}/recommendations_latest/*.parquet"
    query = f"select rank, item_id, reasons[1].text as why from '{latest}' where user_id = 'nora'"
    livelist, python = _command("livelist"), _command("python")
    commands = (
        f"{livelist} recommend --output {files.after} --user nora",
        f"{livelist} run --input {files.events} --items {files.items} --output out/run",
        f'{livelist} score "It runs small, but the fabric is lovely."',
        f'{python} -c "import duckdb; print(duckdb.sql(\\"{query}\\"))"',
    )
    console.print(Text(f"\nEvery record is accounted for: {report.accounting.as_line()}"), soft_wrap=True)
    console.print(Text(f"Two runs in {seconds:.0f} s; Parquet tables in {files.before}/ and {files.after}/"))
    console.print(Text("\nNext:", "dim"))
    for command in commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


def _command(name: str) -> str:
    """How a command of this environment is called from here: its name where PATH has it."""
    own = Path(sys.prefix) / "bin" / name
    found = shutil.which(name)
    if found and Path(found).absolute() == own.absolute():
        return name
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)
