"""The bounded job on Prism, Beam's engine in Go, where its binary is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.pipeline.feedback_log import lists_found, run, shop_log, write_log

pytestmark = pytest.mark.cloud


def prism() -> str:
    """The binary, on the path or where `go install` puts it."""
    gopath = os.environ.get("GOPATH") or str(Path.home() / "go")
    found = shutil.which("prism", path=f"{os.environ.get('PATH', '')}:{gopath}/bin")
    return found or pytest.skip(
        "prism is missing: go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
    )


def test_prism_makes_the_lists_of_the_engine_in_this_process(tmp_path: Path) -> None:
    log = write_log(tmp_path / "events.jsonl", shop_log())
    run(tmp_path / "here", log, threads=1)
    options = ["--runner=PrismRunner", f"--prism_location={prism()}", "--environment_type=LOOPBACK"]
    report = run(tmp_path / "prism", log, threads=1, options=options)
    assert report.accounting.input == len(shop_log())
    made = lists_found(tmp_path / "prism")
    assert made and made == lists_found(tmp_path / "here")
