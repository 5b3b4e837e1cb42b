"""An endless run as its launcher sees it: signals in, one line of status, the books at the end."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from pipeline.live.json_logs import JsonFormatter, strays_logged

if TYPE_CHECKING:
    from pipeline.live.run import LiveReport
    from pipeline.live.state import LiveState

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_STATUS_SECONDS: Final = 1.0


@contextmanager
def stopped_by_signals(
    state: LiveState, after_seconds: float | None, log_format: str = "text"
) -> Iterator[None]:
    """The first SIGINT or SIGTERM, or the time, asks for a drain; a second signal interrupts that."""

    def ask(number: int, frame: FrameType | None) -> None:
        if state.stop.is_set():
            raise KeyboardInterrupt
        state.stop.set()
        if log_format == "text":  # else it is in the log
            print("\nlivelist: draining; once more stops at once", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    if after_seconds is not None:
        threading.Thread(target=_stop_after, args=(state, after_seconds), daemon=True).start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_after(state: LiveState, seconds: float) -> None:
    state.started.wait()
    state.stop.wait(seconds)
    state.stop.set()


@contextmanager
def warnings_shown(log_format: str = "text") -> Iterator[None]:
    """What goes wrong in the background of our own steps is told on standard error while the job goes on.

    As JSON, what goes well is told too, in few lines; and nothing but such lines comes then.
    """
    handler = logging.StreamHandler()
    as_json = log_format == "json"
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter("livelist: %(message)s"))
    ours = [logging.getLogger(name) for name in ("models", "transforms", "pipeline")]
    for logger in ours:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if as_json else logging.WARNING)
        logger.propagate = False
    try:
        with strays_logged() if as_json else nullcontext():
            yield
    finally:
        for logger in ours:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True


@contextmanager
def show_status(state: LiveState, log_format: str = "text") -> Iterator[None]:
    """One line on a terminal that follows the run; nothing elsewhere, nor among JSON."""
    if not sys.stderr.isatty() or log_format == "json":
        yield
        return
    done = threading.Event()
    console = Console(stderr=True)
    with console.status("starting: learning the item index") as line:

        def follow() -> None:
            while not done.wait(_STATUS_SECONDS):
                line.update(status_line(state))

        thread = threading.Thread(target=follow, name="status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def status_line(state: LiveState) -> str:
    """Events, lists, snapshot and freshness so far."""
    books = state.books()
    parts = [f"{books['input']:,} events", f"{state.lists:,} lists"]
    if state.snapshot_time is not None:
        parts.append(f"tables {time.time() - state.snapshot_time:.0f} s old")
    if (fresh := state.freshness.recent_quantiles()) is not None:
        parts.append(f"freshness p50 {fresh[0]:.2f} s, p95 {fresh[1]:.2f} s, p99 {fresh[2]:.2f} s")
    doing = "draining" if state.stop.is_set() else "live" if state.caught_up.is_set() else "reading the log"
    return f"{doing}: {', '.join(parts)}"


def print_live_report(report: LiveReport, console: Console) -> None:
    """The end of `livelist run --streaming`."""

    def say(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble(*parts), soft_wrap=True)

    say(report.accounting.as_line())
    say(
        f"{report.lists:,} lists in {report.seconds:.1f} s, {report.snapshots:,} snapshots, index learned "
        f"{report.rebuilds:,} times, tables in ",
        (report.output, "bold"),
    )
    if report.freshness is not None:
        p50, p95, p99 = report.freshness
        say((f"from arrival to list at most {p50:.2f} s (half), {p95:.2f} s (95%), {p99:.2f} s (99%)", "dim"))
    for line in report.canary:
        say(line)
    for path in report.unfinished:
        say(f"{path}: its last line has no end yet and was not read")
    if report.failed_snapshots or report.failed_rebuilds:
        say(f"failed and tried again: {report.failed_snapshots} snapshots, {report.failed_rebuilds} indexes")
