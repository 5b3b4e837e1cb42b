"""Where people look: progress on a terminal, plain text elsewhere, no log noise in either."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


def quiet_libraries() -> None:
    """Keep third parties' logs off the screen: what fails is raised. Call before importing Beam."""
    if "--debug" in sys.argv:
        return
    logging.getLogger().setLevel(logging.CRITICAL)
    logging.lastResort = None
    warnings.simplefilter("ignore")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


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
def progress(doing: str) -> Iterator[None]:
    """Say on a terminal's standard error what takes long and since when; leave nothing behind."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        display.add_task(doing, total=None)
        yield
