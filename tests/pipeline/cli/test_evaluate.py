"""`livelist evaluate`: a table for people, one object for programs, and a clear word when it cannot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.cli.main import main
from pipeline.config import JobConfig
from pipeline.history import load_history
from pipeline.job import run_job
from pipeline.sample import EVENTS
from tests.pipeline.sample.test_sample import objects


def history(folder: Path, items: int) -> str:
    """Twelve users who walk through the same items, each from another start."""
    lines = [
        {
            "user_id": f"u{user}",
            "kind": "purchase",
            "item_id": f"i{(user + step) % 8}",
            "event_time": f"2024-03-{1 + step:02d}T00:{user:02d}:00Z",
        }
        for user in range(12)
        for step in range(items)
    ]
    path = folder / "events.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(path)


def evaluate(path: str, *more: str) -> int:
    return main(["evaluate", "--input", path, "--model", "none", "--k", "3", *more])


def test_it_prints_livelist_beside_popularity_and_item_knn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(history(tmp_path, 5)) == 0
    shown = capsys.readouterr().out
    assert "leave-last-out, learn strict: 12 predictions for 12 users" in shown
    assert all(name in shown for name in ("HR@3", "NDCG@3", "livelist", "popularity", "item-kNN"))


def test_json_is_one_object_and_the_file_holds_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "figures.json"
    assert evaluate(history(tmp_path, 5), "--json", "--learn=plus", "--write", str(written)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(written.read_text())
    assert (shown["learn"], shown["k"], shown["users"]) == ("plus", 3, 12)


def test_prequential_predicts_everything_after_the_first_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(history(tmp_path, 5), "--protocol=prequential", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["protocol"] == "prequential"
    assert 0 < shown["predictions"] < shown["interactions"] == 60
    assert {row["name"] for row in shown["rows"]} >= {"livelist", "popularity"}


def test_a_history_too_short_to_hold_anything_out_is_an_input_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(history(tmp_path, 2)) == 3
    assert "at least 3 distinct items" in capsys.readouterr().err


def test_no_tables_are_written(tmp_path: Path) -> None:
    path = history(tmp_path, 4)
    assert evaluate(path) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]


@pytest.mark.parametrize("flag", ["--output=out", "--emit_history", "--reindex_every_seconds=5"])
def test_flags_of_runs_are_refused_and_not_shown(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--input", "events.jsonl", flag]) == 2
    assert "belongs to `livelist run`" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert flag.partition("=")[0] not in capsys.readouterr().out


def test_the_job_on_everything_but_what_is_held_out_lists_what_plus_predicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = objects(EVENTS)
    everything, kept = tmp_path / "all.jsonl", tmp_path / "kept.jsonl"
    everything.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert main(["evaluate", "--input", str(everything), "--model", "none", "--learn", "plus", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["rows"][0]

    config = JobConfig(inputs=(str(everything),), output=str(tmp_path), model="none")
    views = [view for view in load_history(config).views() if len(view.interactions) >= 3]
    held_out = {view.user_id: view.interactions[-1].item_id for view in views}
    others = [line for line in lines if held_out.get(str(line.get("user_id")), "") != line.get("item_id")]
    kept.write_text("".join(f"{json.dumps(line)}\n" for line in others))
    out = tmp_path / "out"
    run_job(JobConfig(inputs=(str(kept),), output=str(out), model="none"), PipelineOptions())

    rows = pq.read_table(out / "recommendations_latest", columns=["user_id", "rank", "item_id"]).to_pylist()
    ranks = [row["rank"] for row in rows if held_out.get(row["user_id"]) == row["item_id"]]
    assert ranks
    assert ours["hit_rate"] == pytest.approx(len(ranks) / len(held_out), abs=1e-12)
    gains = (1 / math.log2(1 + rank) for rank in ranks)
    assert ours["ndcg"] == pytest.approx(sum(gains) / len(held_out), abs=1e-12)
