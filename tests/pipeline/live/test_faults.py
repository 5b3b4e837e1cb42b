"""Endless runs under faults: after each, the lists are the oracle's and the books close."""

from __future__ import annotations

import itertools
import json
import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from models.encoder.artefact import Artefact
from models.encoder.scorer import TextScorer
from models.encoder.serving import Served
from models.errors import OutputError
from pipeline.config import JobConfig
from pipeline.connectors.base import Received
from pipeline.live import run as live
from pipeline.live.run import LiveRun
from tests.oracle import assert_books_close, current_lists, expected_lists
from tests.pipeline.live.feedback_log import Event, burst, run, shop_log, table, write_log
from tests.pipeline.live.runs import (
    K,
    append,
    await_that,
    command,
    has_read,
    launched,
    lines_in,
    live_run,
    pinned,
    signalled,
    users_of,
)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a published index of the shop, made by a bounded run."""
    folder = tmp_path_factory.mktemp("learned")
    run(folder / "out", write_log(folder / "log.jsonl", shop_log()))
    return folder / "out"


@pytest.fixture(scope="module")
def scorer() -> TextScorer:
    return TextScorer.load()


def test_a_job_that_is_killed_again_and_again_ends_with_the_oracles_lists(
    learned: Path, scorer: TextScorer, tmp_path: Path
) -> None:
    events, output, chance = tmp_path / "events", tmp_path / "out", random.Random(5)
    events.mkdir()
    index = pinned(learned, output)
    write_log(events / "log.jsonl", shop_log())
    arguments = command(events, output, "--model", "default", "--reindex_every_seconds", "0")
    for attempt in range(2):
        job = launched(arguments)
        await_that((output / ".state" / "checkpoints").is_dir, 120)
        for part in range(8):
            append(events / f"more{attempt}.jsonl", *burst(10 * attempt + part, 12))
            time.sleep(chance.uniform(0.05, 0.4))
        assert signalled(job, signal.SIGKILL)[0] == -signal.SIGKILL
    last: Event = burst(1, 1)[0] | {"event_id": "last", "user_id": "last"}
    append(events / "log.jsonl", *burst(99, 20), "not json\n", last)
    job = launched(arguments)
    await_that(lambda: "last" in {row[0] for row in current_lists(output)} or job.poll() is not None, 120)
    code, _, err = signalled(job, signal.SIGINT)
    assert code == 0, err
    assert current_lists(output) == expected_lists(index, [events], K, scorer)
    assert_books_close(output, lines_in(events))


class Redelivering:
    """A source whose broker delivers a third of the messages again, and what was not committed at a start."""

    def __init__(self, messages: Sequence[bytes], seed: int) -> None:
        self._messages = messages
        self._chance = random.Random(seed)
        self._next = 0
        self.committed: set[int] = set()

    def open(self, resume_from: Mapping[str, int] | None = None) -> None:
        self._next = 0

    def poll(self, max_messages: int, timeout_seconds: float) -> Sequence[Received]:
        wanted = [n for n in range(self._next, len(self._messages)) if n not in self.committed][:20]
        if not wanted:
            time.sleep(0.02)
            return []
        self._next = wanted[-1] + 1
        again = [self._chance.randrange(self._next) for _ in wanted[::3]]
        return [Received(self._messages[n], f"memory:topic/0:{n:010d}", 0, str(n)) for n in [*wanted, *again]]

    def commit(self, receipts: Sequence[str]) -> None:
        self.committed |= set(map(int, receipts))

    def backlog(self) -> int | None:
        return len(self._messages) - len(self.committed)

    def oldest_held(self) -> int | None:
        return None

    def close(self) -> None:
        pass


def _giving(source: Redelivering) -> Callable[[str], Redelivering]:
    return lambda uri: source


def _is_empty(source: Redelivering) -> bool:
    return source.backlog() == 0


def test_what_is_pulled_is_counted_once_however_often_it_is_delivered(learned: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "oracle.jsonl"
    index = pinned(learned, output)
    messages = [json.dumps(event).encode() for event in [*shop_log(), *burst(1, 200)]]
    messages += [b"poison \xff\x00", b"two\nlines", b""]
    log.write_bytes(b"\n".join(messages[:-3]) + b"\n")
    uri = "kafka://localhost:1/topic?group=g"
    for seed in (1, 2):  # the second finds everything committed but what the first did not come to
        source = Redelivering(messages, seed)
        with live_run(uri, output, _giving(source), reindex_every_seconds=0):
            await_that(partial(_is_empty, source))
    assert current_lists(output) == expected_lists(index, [log], K)
    assert_books_close(output, len(messages))


def test_a_source_that_fails_ends_the_run_with_its_error(learned: Path, tmp_path: Path) -> None:
    class Broken(Redelivering):
        def poll(self, max_messages: int, timeout_seconds: float) -> Sequence[Received]:
            raise OSError("the broker is gone")

    output = tmp_path / "out"
    pinned(learned, output)
    with (
        pytest.raises(Exception, match=r"the source failed: .*the broker is gone"),
        live_run(
            "kafka://localhost:1/t?group=g", output, lambda _: Broken([b"{}"], 1), reindex_every_seconds=0
        ) as (state, _),
    ):
        await_that(state.stop.is_set)


class Held:
    """The real scorer, which scores nothing until it is let go."""

    def __init__(self) -> None:
        self._scorer = live._scorer(JobConfig(inputs=("-",), output="-"))
        self.let_go = threading.Event()

    @property
    def artefact(self) -> Artefact:
        return self._scorer.artefact

    def score(self, texts: Sequence[str]) -> Served:
        self.let_go.wait(60)
        return self._scorer.score(texts)


def test_lists_do_not_wait_for_a_model_and_end_with_its_scores(
    learned: Path, scorer: TextScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, output, held = tmp_path / "events", tmp_path / "out", Held()
    events.mkdir()
    index = pinned(learned, output)
    monkeypatch.setattr(live, "_scorer", lambda config: held)
    with live_run(events, output, reindex_every_seconds=0, model=None) as (state, reports):
        append(events / "log.jsonl", *shop_log())
        await_that(lambda: len({row[0] for row in current_lists(output)}) == 14)
        for number in range(5):
            append(events / "log.jsonl", *burst(number, 20))
            read = 143 + 26 * (number + 1)
            await_that(partial(has_read, state, read))
        assert state.books()["accepted.scored"] == 0
        assert current_lists(output)
        held.let_go.set()
    assert reports[0].accounting.counts["accepted.unscored"] == 0
    assert reports[0].accounting.counts["accepted.scored"] > 40
    assert current_lists(output) == expected_lists(index, [events], K, scorer)
    assert_books_close(output, lines_in(events))
    times = table(output, "recommendations_latest")
    assert all(row["event_time"] and row["emitted_time"] <= row["written_time"] for row in times)


def test_texts_that_had_no_score_at_a_kill_are_scored_by_the_next_run(
    learned: Path, scorer: TextScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, output, held = tmp_path / "events", tmp_path / "out", Held()
    events.mkdir()
    index = pinned(learned, output)
    write_log(events / "log.jsonl", shop_log())
    monkeypatch.setattr(live, "_scorer", lambda config: held)
    monkeypatch.setattr(LiveRun, "unfinished", lambda run: False)  # a drain that waits for no text
    with live_run(events, output, reindex_every_seconds=0, model=None) as (state, reports):
        await_that(lambda: state.books()["input"] == 143)
    assert reports[0].accounting.counts["accepted.unscored"] > 40
    monkeypatch.undo()
    held.let_go.set()
    with live_run(events, output, reindex_every_seconds=0, model=None) as (_, reports):
        pass
    assert reports[0].accounting.counts["accepted.unscored"] == 0
    assert current_lists(output) == expected_lists(index, [events], K, scorer)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_serves(
    learned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    index = pinned(learned, output)
    write_log(events / "log.jsonl", shop_log())
    with live_run(events, output, reindex_every_seconds=0):
        await_that(lambda: len(list((output / ".state" / "checkpoints").glob("[0-9]*"))) == 2)
        append(events / "log.jsonl", *burst(3, 30))
    newest = max((output / ".state" / "checkpoints").glob("[0-9]*"))
    (newest / "users.arrow").write_bytes(b"spoiled")
    caplog.set_level(logging.ERROR)  # commands that ran in this process before may have silenced it
    with live_run(events, output, reindex_every_seconds=0):
        append(events / "log.jsonl", *burst(4, 30))
    assert "is damaged, the one before it serves" in caplog.text
    assert current_lists(output) == expected_lists(index, [events], K)


def test_state_of_a_job_with_other_cleaning_is_refused(learned: Path, tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    pinned(learned, output)
    write_log(events / "log.jsonl", shop_log())
    with live_run(events, output, reindex_every_seconds=0) as (state, _):
        await_that(state.caught_up.is_set)
    with (
        pytest.raises(Exception, match="holds the state of a job with another --format, cleaning"),
        live_run(events, output, reindex_every_seconds=0, model=None) as (state, _),
    ):
        await_that(state.started.is_set)


class Away:
    """A sink that is down until it is let go; then it keeps the highest version of each user."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.attempts = 0
        self.lists: dict[str, tuple[int, list[str]]] = {}

    def open(self) -> None:
        pass

    def write(self, name: str, rows: pa.Table) -> None:
        self.attempts += 1
        if not self.back.is_set():
            raise OutputError("the sink is away")
        for row in rows.to_pylist() if name == "recommendations" else ():
            listed = row["state_version"], [item["item_id"] for item in row["items"]]
            self.lists[row["user_id"]] = max(listed, self.lists.get(row["user_id"], (0, [])))

    def close(self) -> None:
        pass


def test_a_sink_that_was_away_ends_with_every_list_and_none_waited_for_it(
    learned: Path, tmp_path: Path
) -> None:
    events, output, sink = tmp_path / "events", tmp_path / "out", Away()
    events.mkdir()
    pinned(learned, output)
    write_log(events / "log.jsonl", shop_log())
    uri = "postgresql://localhost/db"
    with live_run(events, output, open_sink=lambda _: sink, sinks=(uri,), reindex_every_seconds=0) as (
        state,
        _,
    ):
        await_that(lambda: len({row[0] for row in current_lists(output)}) == 14)
        await_that(lambda: sink.attempts > 0)
        assert not sink.lists
        append(events / "log.jsonl", *burst(1, 40))
        await_that(lambda: state.books()["input"] == 143 + 53)
        sink.back.set()
    listed: dict[str, list[str]] = {}
    for user_id, _, item_id, *_ in current_lists(output):
        listed.setdefault(user_id, []).append(item_id)
    assert {user_id: items for user_id, (_, items) in sink.lists.items()} == listed
    assert not list((output / ".state" / "outbox").rglob("*.parquet"))


def test_a_clock_that_jumps_back_and_ahead_holds_up_no_list_and_no_version_goes_back(
    learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, output, jumped = tmp_path / "events", tmp_path / "out", [0]
    events.mkdir()
    index = pinned(learned, output)
    write_log(events / "log.jsonl", shop_log())
    seconds, nanoseconds = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: seconds() + jumped[0])
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + jumped[0] * 10**9)
    highest: list[dict[str, int]] = []
    with live_run(events, output, reindex_every_seconds=0) as (_, reports):
        await_that(lambda: len(users_of(output)) == 14)
        for number, hours in enumerate((-3, 6, 0)):
            highest.append({row["user_id"]: row["state_version"] for row in latest(output)})
            jumped[0] = hours * 3600
            visitor: Event = burst(1, 1)[0] | {"event_id": f"visit{number}", "user_id": f"visitor{number}"}
            append(events / "log.jsonl", *burst(40 + number, 30), visitor)
            await_that(partial(lists_of, output, f"visitor{number}"))
    highest.append({row["user_id"]: row["state_version"] for row in latest(output)})
    for before, after in itertools.pairwise(highest):
        assert all(after[user] >= version for user, version in before.items())
    assert reports[0].failed_snapshots == 0
    assert current_lists(output) == expected_lists(index, [events], K)
    assert_books_close(output, lines_in(events))


def latest(output: Path) -> list[dict[str, Any]]:
    return table(output, "recommendations_latest")


def lists_of(output: Path, user_id: str) -> bool:
    """Whether a user has a list."""
    return user_id in users_of(output)
