"""What every test shares: the end of a run says in one line a reason what was left out, and why."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from typing import Final

import pytest

from tests.side_by_side import PARTS

#: Markers of tests that `make test` leaves to `make test-all`.
_NEEDS_MORE: Final = {"train", "java", "postgres", "cloud", "browser", "flink"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `train` where torch is missing."""
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        return
    for item in items:
        if item.get_closest_marker("train"):
            item.add_marker(pytest.mark.skip(reason="torch and transformers are missing: make test-all"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the reasons behind skipped and deselected tests."""
    reasons: Counter[str] = Counter()
    elsewhere = "make test runs them" if config.option.markexpr else "deselected"
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    for item in terminalreporter.stats.get("deselected", []):
        names = sorted({mark.name for mark in item.iter_markers()} & _NEEDS_MORE)
        if names and PARTS in os.environ:
            continue  # another part runs it
        reasons[f"needs {' and '.join(names)}: make test-all" if names else elsewhere] += 1
    if not reasons:
        return
    terminalreporter.section("left out")
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count:5d}  {reason}")
