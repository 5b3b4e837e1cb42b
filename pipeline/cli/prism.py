"""`livelist run --streaming --runner=PrismRunner`: an endless job on Beam's engine in Go."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pipeline.cli.flink import until_asked

if TYPE_CHECKING:
    from pipeline.options import Launch


def run_on_prism(launch: Launch, args: argparse.Namespace) -> int:
    """Runs until Ctrl-C, SIGTERM or the time, and drains then."""
    from pipeline.prism_run import run_prism
    from pipeline.tables.reader import last_published

    print(
        "runner: PrismRunner, on this machine; it keeps nothing for a restart, which reads the files "
        "from their beginning; Ctrl-C drains",
        file=sys.stderr,
    )
    with until_asked(args.run_for_seconds) as asked:
        books = run_prism(launch.config, launch.beam_options, asked)
    published = last_published(launch.config.output)
    rows = ", ".join(f"{each.table} {each.rows:,}" for each in published.receipts) if published else "none"
    print(f"drained; tables in {launch.config.output}; rows of the last snapshot: {rows}")
    print(books.as_line())
    return 0
