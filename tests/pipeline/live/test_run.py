"""Endless runs: lists follow what is appended, a kill costs nothing, a drain closes the books."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import InputError, OutputError, UsageError
from models.ranking.index import ItemIndex, read_pointer
from models.records import TopK
from pipeline.cli.main import main
from pipeline.config import JobConfig
from pipeline.inputs.reading import InputFormat
from pipeline.live import tables as live_tables
from pipeline.live.reindex import rebuild_index
from pipeline.live.run import LiveRun, check_live
from pipeline.tables.reader import read_accounting
from tests.oracle import current_lists, expected_lists
from tests.pipeline.live.feedback_log import ITEMS, START, Event, shop_log, table, write_log
from tests.pipeline.live.runs import (
    K,
    append,
    await_that,
    command,
    launched,
    live_run,
    pinned,
    signalled,
    users_of,
)


def view(number: int, user: str, item: str = ITEMS[3], kind: str = "purchase") -> Event:
    return {
        "event_id": f"new{number}",
        "user_id": user,
        "kind": kind,
        "event_time": START + 100_000 + number,
        "item_id": item,
    }


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """A folder with the shop's log."""
    folder = tmp_path / "events"
    folder.mkdir()
    write_log(folder / "log.jsonl", shop_log())
    return folder


def test_lists_follow_what_is_appended_and_are_those_of_the_pure_core(
    events: Path, learned: Path, tmp_path: Path
) -> None:
    output, log = tmp_path / "out", events / "log.jsonl"
    index = pinned(learned, output)
    with live_run(events, output, reindex_every_seconds=0) as (_, reports):
        await_that(lambda: len(users_of(output)) == 14)
        append(log, view(1, "zoe"))
        await_that(lambda: "zoe" in users_of(output))
        append(events / "more.jsonl", view(2, "yan"), "not json\n", view(3, "zoe", ITEMS[5]))
        await_that(lambda: "yan" in users_of(output))
    (report,) = reports
    assert current_lists(output) == expected_lists(index, [events], K)
    assert (report.accounting.input, report.accounting.unaccounted) == (147, 0)
    assert report.accounting.counts["dead_lettered.invalid_json"] == 1
    assert read_accounting(str(output)).counts == report.accounting.counts
    assert [row["source_position"] for row in table(output, "dead_letters")] == ["more.jsonl:0000000002"]
    assert not [path for path in output.iterdir() if path.name.startswith((".stream", ".staging"))]


def read_between_snapshots(output: Path) -> list[float]:
    rows = table(output, "quality") if (output / "quality").is_dir() else []
    return [row["value"] for row in rows if row["check"] == "accounting.input" and row["window_start"]]


def test_the_books_of_all_snapshots_add_up_to_those_of_the_run(
    events: Path, learned: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    pinned(learned, output)
    with live_run(events, output, reindex_every_seconds=0) as (_, reports):
        await_that(lambda: sum(read_between_snapshots(output)) == 143)
        append(events / "log.jsonl", view(1, "zoe"))
        await_that(lambda: sum(read_between_snapshots(output)) == 144)
    parts, rows = read_between_snapshots(output), table(output, "quality")
    assert len(parts) >= 2
    assert sum(parts) == reports[0].accounting.input
    unaccounted = [row["value"] for row in rows if row["check"] == "accounting.unaccounted"]
    assert set(unaccounted) == {0.0}


def test_lines_that_come_again_change_nothing(events: Path, learned: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "out", events / "log.jsonl"
    index = pinned(learned, output)
    before = expected_lists(index, [events], K)
    once = log.read_text()
    with live_run(events, output, reindex_every_seconds=0) as (state, reports):
        await_that(lambda: state.lists > 0)
        made = state.lists
        append(log, once)
        await_that(lambda: state.books()["input"] == 286)
        assert state.lists == made
    assert current_lists(output) == before
    counts = reports[0].accounting.counts
    assert counts["duplicate"] >= 140
    assert reports[0].accounting.unaccounted == 0


def test_a_line_without_an_end_waits_and_is_told_at_the_drain(
    events: Path, learned: Path, tmp_path: Path
) -> None:
    output, log = tmp_path / "out", events / "log.jsonl"
    pinned(learned, output)
    with live_run(events, output, reindex_every_seconds=0) as (state, reports):
        append(log, '{"event_id": "half", "user_id": "zoe", "kind": "view", ')
        await_that(lambda: state.books()["input"] == 143)
        append(log, f'"item_id": "{ITEMS[1]}", "event_time": {START}}}\n')
        await_that(lambda: state.books()["input"] == 144)
        append(log, '{"event_id": "never')
    assert reports[0].unfinished == (str(log),)
    assert reports[0].accounting.total("dead_lettered.") == 0
    assert "zoe" in users_of(output)


def test_an_empty_folder_waits_for_its_first_feedback_and_learns_from_it(tmp_path: Path) -> None:
    folder, output = tmp_path / "events", tmp_path / "out"
    folder.mkdir()
    with live_run(folder, output, reindex_every_seconds=60) as (_, reports):
        append(folder / "log.jsonl", *shop_log())
        await_that(lambda: len(users_of(output)) == 14)
    assert reports[0].rebuilds >= 1
    assert reports[0].accounting.input == 143


def test_a_run_that_still_waits_for_its_first_file_drains_and_ends_well(tmp_path: Path) -> None:
    folder, output = tmp_path / "events", tmp_path / "out"
    folder.mkdir()
    job = launched(command(folder, output))
    await_that(lambda: read_pointer(output) is not None or job.poll() is not None)
    code, out, err = signalled(job, signal.SIGINT)
    assert code == 0, err
    assert "0 read = " in out


def test_first_lists_do_not_wait_for_the_interval_of_the_snapshots(tmp_path: Path) -> None:
    folder, output = tmp_path / "events", tmp_path / "out"
    folder.mkdir()
    with live_run(folder, output, reindex_every_seconds=60, snapshot_every_seconds=600):
        append(folder / "log.jsonl", *shop_log())
        await_that(lambda: len(users_of(output)) == 14)


def test_an_index_of_nothing_can_be_learned_before_the_first_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    config = JobConfig(inputs=(str(tmp_path / "events"),), output=str(tmp_path / "out"), model="none")
    assert ItemIndex.open(rebuild_index(config, None)).items == 0


def test_the_index_is_learned_anew_and_lists_change_to_it(events: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "out", events / "log.jsonl"
    with live_run(events, output, reindex_every_seconds=0.5) as (_, reports):
        await_that(lambda: len(users_of(output)) == 14)
        first = read_pointer(output)
        append(log, *(view(n, f"user{n % 14:02d}", "brand-new") for n in range(20)))
        await_that(lambda: read_pointer(output) != first)
        numbers = itertools.count(100)

        def listed_by_new() -> bool:  # which is polled for
            append(log, view(next(numbers), "zoe", ITEMS[next(numbers) % 14]))
            return ("zoe", "brand-new") in {(row[0], row[2]) for row in current_lists(output)}

        await_that(listed_by_new)
    assert reports[0].rebuilds >= 2
    assert reports[0].failed_rebuilds == 0


def test_a_brand_new_item_is_in_lists_of_others_long_before_the_index_is_due(
    events: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    output, log, numbers = tmp_path / "out", events / "log.jsonl", itertools.count()
    listed: dict[str, float] = {}

    def note(made: TopK) -> None:
        if "brand-new" in {item.item_id for item in made.items}:
            listed.setdefault(made.user_id, time.monotonic())

    def listed_by_another() -> bool:  # who acts meanwhile, on other items
        append(log, *(view(next(numbers), user, ITEMS[next(numbers) % 14]) for user in ("yan", "zoe")))
        time.sleep(0.3)
        return bool(listed.keys() & {"yan", "zoe"})

    def watch(run: LiveRun) -> None:
        run.state.on_list = note

    with live_run(events, output, watch=watch, reindex_every_seconds=600):
        await_that(lambda: len(users_of(output)) == 14)
        began = time.monotonic()
        append(log, *(view(next(numbers), f"user{n:02d}", "brand-new") for n in range(8)))
        await_that(listed_by_another, 120)
    seconds = min(listed[user] for user in listed.keys() & {"yan", "zoe"}) - began
    record_property("seconds_from_first_event_to_a_list_of_another", round(seconds, 2))
    print(f"in a list of another after {seconds:.1f} s")
    assert seconds < 20


def test_a_broken_pointer_is_refused_and_the_old_index_serves_on(
    events: Path, learned: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    index = pinned(learned, output)
    pointer = output / "index" / "CURRENT"
    with live_run(events, output, reindex_every_seconds=0):
        await_that(lambda: len(users_of(output)) == 14)
        pointer.write_text("nowhere\n")
        append(events / "log.jsonl", view(1, "zoe"))
        await_that(lambda: "zoe" in users_of(output))
    versions = {row["index_version"] for row in table(output, "recommendations_latest")}
    assert versions == {index.name}


def test_a_start_on_a_broken_pinned_index_says_so(events: Path, learned: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    pinned(learned, output)
    (output / "index" / "CURRENT").write_text("nowhere\n")
    with pytest.raises(Exception, match="no item index"), live_run(events, output, reindex_every_seconds=0):
        pass


def test_tables_of_an_earlier_run_stand_until_the_log_has_been_read(
    events: Path, learned: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(learned, output)
    before = current_lists(output)
    with live_run(events, output, reindex_every_seconds=0, snapshot_every_seconds=30) as (state, _):
        await_that(state.caught_up.is_set)
        assert current_lists(output) == before
    assert len(table(output, "scored_feedback")) == len(table(learned, "scored_feedback"))
    assert len(table(output, "recommendations")) == 14


def test_tables_that_cannot_be_written_end_the_run(
    events: Path, learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    pinned(learned, output)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(OutputError, match="no space left"),
        live_run(events, output, reindex_every_seconds=0) as (
            state,
            _,
        ),
    ):
        await_that(state.caught_up.is_set)
        monkeypatch.setattr(live_tables, "take_snapshot", full)
        append(events / "log.jsonl", view(1, "zoe"))
        await_that(state.stop.is_set)


def test_a_killed_job_that_starts_again_ends_with_the_lists_of_the_pure_core(
    events: Path, learned: Path, tmp_path: Path
) -> None:
    output, log = tmp_path / "out", events / "log.jsonl"
    index = pinned(learned, output)
    arguments = command(events, output, "--reindex_every_seconds", "0")
    job = launched(arguments)
    await_that(lambda: len(users_of(output)) == 14)
    append(log, *(view(n, f"user{n:02d}", ITEMS[n]) for n in range(10)))
    assert signalled(job, signal.SIGKILL)[0] == -signal.SIGKILL
    append(log, view(20, "zoe"))
    job = launched(arguments)
    await_that(lambda: "zoe" in users_of(output))
    append(log, view(21, "zoe", ITEMS[7]), view(22, "yan"))
    code, out, err = signalled(job, signal.SIGINT)
    assert code == 0, err
    assert "156 read = " in out
    assert "UNACCOUNTED" not in out
    assert current_lists(output) == expected_lists(index, [events], K)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--format", "amazon"], "follows JSON lines, not --format amazon"),
        (["--runner", "DirectRunner"], "does not run on DirectRunner: it chooses among three engines"),
        (["--runner", "BundleBasedDirectRunner"], "leave --runner out, or pass FnApiRunner"),
        (["--runner", "spark"], "does not run on SparkRunner: no endless job is made for it"),
        (["--direct_num_workers=2"], "--direct_num_workers is of no use in an endless run in this process"),
        (["--direct_running_mode=multi_processing"], "--direct_running_mode is of no use"),
        (["--emit_history"], "--emit_history does nothing in an endless run in this process"),
        (["--now", "2024-01-01"], "--now does nothing in an endless run in this process"),
        (["--output", "gs://bucket/out"], "expected one folder of the tables"),
    ],
)
def test_what_an_endless_run_cannot_do_is_refused_with_the_reason(
    flags: list[str], why: str, events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["run", "--streaming", "--input", str(events), "--output", str(tmp_path / "out"), *flags]
    assert main(job) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_follow_is_streaming_and_tells_where_its_metrics_are(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["run", "--follow", "--runner=fnapi", "--input", str(events), "--output", str(tmp_path / "out")]
    few = ["--model=none", "--run_for_seconds=0.5", "--snapshot_every_seconds=0.3"]
    assert main([*job, *few, "--metrics_port=0", "--metrics_host=0.0.0.0"]) == 0
    told = capsys.readouterr()
    assert re.search(r"^metrics: http://0\.0\.0\.0:[1-9]\d*/metrics$", told.err, re.MULTILINE)
    assert "warning: --metrics_host 0.0.0.0 shows the run's figures" in told.err
    assert "lists in" in told.out and users_of(tmp_path / "out")


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_what_is_no_port_is_refused(port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--follow", f"--input={tmp_path}", "--output=out", f"--metrics_port={port}"]) == 2
    assert f"--metrics_port: expected a port from 0 to 65535, got '{port}'" in capsys.readouterr().err


def test_stdin_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not stdin"):
        check_live(JobConfig(inputs=("-",), output=str(tmp_path)))
    with pytest.raises(InputError, match="make the folder"):
        check_live(JobConfig(inputs=(str(tmp_path / "none"),), output=str(tmp_path)))
    with pytest.raises(UsageError, match="--format csv"):
        check_live(JobConfig(inputs=(str(tmp_path),), output=str(tmp_path), form=InputFormat("csv")))
