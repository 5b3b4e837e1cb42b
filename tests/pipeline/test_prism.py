"""The job on Prism, Beam's engine in Go, where its binary is there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from models.errors import DeploymentError, UsageError
from models.ranking.index import read_pointer
from pipeline.cli.main import main
from pipeline.config import JobConfig
from pipeline.prism_run import check_prism, prism_found, run_prism
from tests.oracle import assert_books_close, current_lists, expected_lists
from tests.pipeline.live.feedback_log import lists_found, run, shop_log, table, write_log
from tests.pipeline.live.runs import await_that
from transforms.score_feedback import ScoreFeedback

_DRAIN_SECONDS = 180.0


@pytest.fixture
def prism() -> str:
    """The binary."""
    return prism_found(None) or pytest.skip(
        "prism is missing: go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
    )


def accepted(output: Path) -> int:
    """Events that count, by the last snapshot."""
    table = output / "scored_feedback"
    return pq.read_table(table, columns=["event_id"]).num_rows if table.exists() else 0


@pytest.mark.cloud
@pytest.mark.usefixtures("prism")
def test_prism_makes_the_lists_of_the_engine_in_this_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "events.jsonl", shop_log())
    run(tmp_path / "here", log, threads=1)
    places = [f"--input={log}", f"--output={tmp_path / 'prism'}"]
    assert main(["--debug", "run", "--runner=PrismRunner", *places, "--k=5", "--threads=1"]) == 0
    assert f"{len(shop_log()):,} read = " in capsys.readouterr().out
    made = lists_found(tmp_path / "prism")
    assert made and made == lists_found(tmp_path / "here")


@pytest.mark.cloud
def test_an_endless_job_on_prism_drains_to_the_lists_of_the_oracle(prism: str, tmp_path: Path) -> None:
    events, folder, output = shop_log(), tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    whole = Path(write_log(tmp_path / "whole.jsonl", events))
    run(output, str(whole), threads=1)  # its index is the one that is ranked by
    index = read_pointer(output)
    assert index is not None
    write_log(folder / "a.jsonl", events[:100])
    flags = [f"--input={folder}", f"--output={output}", "--k=5", "--threads=1", "--reindex_every_seconds=0"]
    engine = ["--runner=PrismRunner", f"--prism_location={prism}", "--snapshot_every_seconds=0.5"]
    command = [sys.executable, "-m", "pipeline.cli.main", "run", "--streaming", *flags, *engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        try:
            await_that(lambda: job.poll() is not None or 50 < accepted(output) <= 100)
            write_log(folder / "b.jsonl", events[100:])
            await_that(lambda: job.poll() is not None or accepted(output) > 105)
        finally:
            job.terminate()
            told, complaints = job.communicate(timeout=_DRAIN_SECONDS)
    assert job.returncode == 0, complaints
    assert told.startswith(f"drained; tables in {output}")
    assert f"\n{len(events):,} read = " in told and "UNACCOUNTED" not in told
    assert_books_close(output, len(events))
    assert table(output, "trends")
    scorer = ScoreFeedback(threads=1).load()
    assert scorer is not None
    assert current_lists(output) == expected_lists(index, [whole], 5, scorer.scorer)


def test_what_prism_would_lose_is_refused() -> None:
    pulled = JobConfig(inputs=("kafka://127.0.0.1:9092/t?group=g",), output="out")
    with pytest.raises(UsageError, match="what it has acknowledged would be lost"):
        check_prism(pulled)
    with pytest.raises(UsageError, match="--state_dir does nothing in an endless run on Prism"):
        check_prism(JobConfig(inputs=("events",), output="out", state_dir="state"))


def test_without_its_binary_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GOPATH", str(tmp_path))
    write_log(tmp_path / "events.jsonl", shop_log())
    config = JobConfig(inputs=(str(tmp_path / "events.jsonl"),), output=str(tmp_path / "out"))
    with pytest.raises(DeploymentError, match=r"go install github\.com/apache/beam/sdks/v2/go/cmd/prism@v"):
        run_prism(config, PipelineOptions([]), threading.Event())


def test_flags_of_a_job_in_this_process_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--streaming", "--runner=PrismRunner", "--input=events", "--output=out"]
    assert main([*command, "--metrics_port=9400"]) == 2
    assert (
        "--metrics_port does nothing in an endless run on Prism: it is for an endless run "
        "in this process or on Flink" in capsys.readouterr().err
    )
