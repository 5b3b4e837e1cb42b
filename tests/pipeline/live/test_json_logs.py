"""JSON logs: standard error is one object a line, a healthy run tells its course, no text is in them."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from pipeline.live.json_logs import JsonFormatter, strays_logged
from tests.pipeline.live.feedback_log import shop_log, write_log
from tests.pipeline.live.runs import append, await_that, command, launched, signalled, users_of
from tests.pipeline.live.test_run import view

MARKER = "quizzaciously"


def lines_of(err: str) -> list[dict[str, Any]]:
    """Fails where a line is not one JSON object."""
    told = [json.loads(line) for line in err.splitlines()]
    assert all(set(line) >= {"time", "level", "logger", "thread", "message"} for line in told)
    return told


def marked_log(folder: Path) -> Path:
    folder.mkdir()
    events = [
        event | {"text": f"{event['text']} {MARKER}"} if "text" in event else event for event in shop_log()
    ]
    return Path(write_log(folder / "log.jsonl", events))


def test_a_healthy_run_tells_its_course_in_json_alone(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    log = marked_log(events)
    arguments = command(
        events, output, "--log_format", "json", "--model", "default", "--reindex_every_seconds", "2"
    )
    job = launched(arguments)
    await_that(lambda: len(users_of(output)) == 14 or job.poll() is not None)
    append(log, *(view(number, f"user{number:02d}", "brand-new") for number in range(10)), view(20, "zoe"))
    await_that(lambda: "zoe" in users_of(output) or job.poll() is not None)
    code, _, err = signalled(job, signal.SIGTERM)
    assert code == 0, err
    told = lines_of(err)
    course = [
        "runner: FnApiRunner, in this process",
        " begins: there is no checkpoint in ",
        "all that was there is in lists: ",
        " is published: ",
        " takes over from ",
        "draining: ",
        "drained: 154 read = ",
    ]
    messages = [line["message"] for line in told]
    for part in course:
        assert [message for message in messages if part in message], (part, messages)
    assert {line["level"] for line in told} == {"INFO"}
    assert len(told) < 40
    assert MARKER not in err


def test_a_run_that_cannot_start_says_so_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["run", "--streaming", "--input", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert main([*job, "--log_format", "json"]) == 3
    told = lines_of(capsys.readouterr().err)
    assert told[-1]["level"] == "ERROR"
    assert "there is nothing to follow" in told[-1]["message"]


def test_an_error_that_ends_a_thread_is_a_line_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise ValueError(MARKER)

    caplog.set_level(logging.ERROR)  # commands that ran in this process before may have silenced it
    with strays_logged():
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
    (record,) = caplog.records
    line = JsonFormatter().format(record)
    assert "worker ended: ValueError in work, " in json.loads(line)["message"]
    assert MARKER not in line


def test_snapshots_that_fail_are_errors_and_so_is_the_end_of_the_run(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    log = marked_log(events)
    job = launched(command(events, output, "--log_format", "json"))
    await_that(lambda: len(users_of(output)) == 14 or job.poll() is not None)
    checkpoints = output / ".state" / "checkpoints"
    os.rename(checkpoints, output / ".state" / "aside")
    checkpoints.write_text("a file stands where the checkpoints go")
    append(log, view(1, "zoe"))
    _, err = job.communicate(timeout=180)
    assert job.returncode == 4
    told = lines_of(err)
    assert [
        line
        for line in told
        if line["level"] == "ERROR" and "the tables are not refreshed" in line["message"]
    ]
    assert told[-1]["level"] == "ERROR"
