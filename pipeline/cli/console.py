"""Where people look: progress on a terminal, plain text elsewhere, no log noise in either."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from pipeline.progress import Progress

_REFRESHES_A_SECOND: Final = 5
_LEAST_BAR: Final = 8  # columns
_WIDEST_BAR: Final = 24


def quiet_libraries() -> None:
    """Keep third parties' logs off the screen: what fails is raised. Call before importing Beam."""
    if "--debug" in sys.argv:
        return
    logging.getLogger().setLevel(logging.CRITICAL)
    logging.lastResort = None
    warnings.simplefilter("ignore")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def quiet_workers() -> None:
    """Keep the logs of processes that an engine starts off the screen: what fails in them is raised here.

    They inherit descriptor 2, which leads nowhere from now on; our own errors go where it led.
    """
    if "--debug" in sys.argv:
        return
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def tell_skipped(patterns: Iterable[str]) -> None:
    """Say on standard error which files of given folders are not read."""
    from pipeline.inputs.finding import skipped_files

    if skipped := skipped_files(patterns):
        more = f" and {len(skipped) - 5:,} more" if len(skipped) > 5 else ""
        print(f"not read: {', '.join(skipped[:5])}{more} (no data, by their names)", file=sys.stderr)


def output_console(width: int | None = None) -> Console:
    """Standard output: colours on a terminal unless NO_COLOR is set; 100 columns where nobody looks."""
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # ends as it does where `print` finds it

    if sys.stdout.isatty():
        return _Console(highlight=False, soft_wrap=False, width=width)
    return _Console(highlight=False, soft_wrap=False, width=width or 100, file=cast(TextIO, _Trimmed()))


class _Trimmed:
    """Standard output without the spaces that fill table cells up to the end of a line."""

    def write(self, text: str) -> int:
        """Write whole lines, as consoles do."""
        return sys.stdout.write(re.sub(r" +(?=\n)", "", text))

    def __getattr__(self, name: str) -> object:
        return getattr(sys.stdout, name)


@contextmanager
def progress(doing: str, *stages: str, shown: bool = True) -> Iterator[None]:
    """Show on a terminal's standard error how far this process's PROGRESS is; leave nothing behind.

    `doing` is said while no step has told anything; `stages` are those to come, where they are known.
    """
    from pipeline.progress import PROGRESS

    PROGRESS.begin(*stages)
    if not (shown and sys.stderr.isatty()):
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    console, spinner, began = Console(stderr=True), Spinner("dots"), time.monotonic()

    def line() -> Table:
        return progress_line(PROGRESS, doing, time.monotonic() - began, console.width, spinner)

    with Live(console=console, transient=True, refresh_per_second=_REFRESHES_A_SECOND, get_renderable=line):
        yield


def progress_line(
    told: Progress, doing: str, seconds: float, width: int, spinner: RenderableType = ""
) -> Table:
    """One line of at most `width` columns: the stage, its share and time left, what was counted, the time."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    share, left = told.share, told.seconds_left()
    stage = " ".join(part for part in (told.number, told.stage or doing) if part)
    head = stage if share is None else f"{stage} {share:4.0%}"
    of_stage = f" of {told.number}" if told.number else ""
    remaining = [] if left is None else [f"{clock(left)} left{of_stage}"]
    parts = [clock(seconds), *remaining, *told.counted()]
    while len(parts) > 1 and len(head) + len(", ".join(parts)) + 4 > width:
        parts.pop()
    tail = ", ".join(parts)
    room = width - len(head) - len(tail) - 6
    line = Table.grid(padding=(0, 1))
    cells = [spinner, head]
    if share is not None and room >= _LEAST_BAR:
        cells.append(ProgressBar(1.0, share, width=min(room, _WIDEST_BAR)))
    for _ in range(len(cells)):
        line.add_column(no_wrap=True)
    line.add_column(no_wrap=True, style="dim")
    line.add_row(*cells, tail)
    return line


def clock(seconds: float) -> str:
    """Such as 0:07 or 1:02:33."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
