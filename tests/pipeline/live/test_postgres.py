"""An endless run into a PostgreSQL that answers no more after it committed, restarts, or is away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pipeline.connectors.feeder import SinkFeeder
from pipeline.connectors.identity import IDENTITY
from pipeline.live.run import LiveRun
from tests.oracle import assert_books_close, current_lists, expected_lists
from tests.pipeline.connectors.targets import PostgresTarget
from tests.pipeline.live.feedback_log import burst, run, shop_log, table, write_log
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
from tests.servers.postgres import PostgresServer, postgres_server, why_not
from tests.servers.tcp_proxy import TcpProxy

pytestmark = pytest.mark.postgres
pytest.importorskip("psycopg", reason="psycopg is missing: make test-all")

#: For so long the sink is away.
DOWN_SECONDS: Final = float(os.environ.get("LIVELIST_SINK_DOWN_SECONDS", "5"))


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One of our own, which may be killed."""
    if reason := why_not():
        pytest.skip(reason)
    with postgres_server() as server:
        yield server


def settled(feeder: SinkFeeder) -> bool:
    """Whether the sink has all that was meant for it so far."""
    return not feeder.waiting() and not feeder.counts.failures


def rows_in(target: PostgresTarget) -> int:
    """Of all histories."""
    return sum(map(target.count, IDENTITY))


def test_a_sink_that_times_out_after_its_commit_and_restarts_ends_with_every_list_once(
    server: PostgresServer, tmp_path: Path
) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    run(tmp_path / "learned", write_log(events / "log.jsonl", shop_log()), model="none")
    index = pinned(tmp_path / "learned", output)
    target, lives = PostgresTarget(server.uri), list[LiveRun]()
    read = lines_in(events)

    def goes_on(seed: int) -> None:
        nonlocal read
        append(events / "log.jsonl", *(more := burst(seed, 30)))
        read += len(more)
        await_that(lambda: has_read(lives[0].state, read))

    with TcpProxy(("127.0.0.1", server.port)) as proxy:
        uri = target.uri.replace(f":{server.port}/", f":{proxy.port}/") + "&timeout_seconds=4"
        with live_run(events, output, watch=lives.append, sinks=(uri,), reindex_every_seconds=0):
            await_that(lambda: lives and lives[0].feeders and target.count("recommendations") >= 14)
            feeder = lives[0].feeders[0]
            await_that(lambda: settled(feeder))
            committed = rows_in(target)
            proxy.lose_answer_to = b"COMMIT\0"
            goes_on(1)
            await_that(lambda: feeder.counts.failures)
            assert proxy.unheard
            assert rows_in(target) > committed, "nothing was committed without an answer"
            goes_on(2)
            proxy.lose_answer_to = b""
            await_that(lambda: settled(feeder))
            server.kill()
            goes_on(3)
            await_that(lambda: feeder.counts.failures)
            server.start()
            goes_on(4)
    assert current_lists(output) == expected_lists(index, [events], K)
    assert_books_close(output, read)
    assert_as_in_the_folder(target, output)
    for name in ("recommendations", "scored_feedback"):
        assert target.count(name) == len(table(output, name)), name


def listed(target: PostgresTarget) -> set[str]:
    """The users who have a list in the sink."""
    return {row[0] for row in target.current()}


def assert_as_in_the_folder(target: PostgresTarget, output: Path) -> None:
    columns = ("user_id", "rank", "item_id", "state_version")
    latest = table(output, "recommendations_latest")
    assert target.current() == sorted(tuple(row[name] for name in columns) for row in latest)


def test_while_a_sink_is_away_lists_go_on_and_afterwards_it_has_every_one(
    server: PostgresServer, tmp_path: Path
) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    run(tmp_path / "learned", write_log(events / "log.jsonl", shop_log()), model="none")
    index = pinned(tmp_path / "learned", output)
    target, lives, number = PostgresTarget(server.uri), list[LiveRun](), 0
    with live_run(events, output, watch=lives.append, sinks=(target.uri,), reindex_every_seconds=0):
        await_that(lambda: lives and lives[0].feeders and target.count("recommendations") >= 14)
        feeder = lives[0].feeders[0]
        await_that(lambda: settled(feeder))
        server.kill()
        back = time.monotonic() + DOWN_SECONDS
        while time.monotonic() < back:
            number += 1
            append(events / "log.jsonl", *burst(number, 20))
            time.sleep(0.5)
        read = lines_in(events)
        await_that(lambda: has_read(lives[0].state, read))
        await_that(lambda: feeder.counts.failures)
        assert feeder.waiting() > 0
        server.start()
    assert not feeder.waiting()
    assert current_lists(output) == expected_lists(index, [events], K)
    assert_books_close(output, read)
    assert_as_in_the_folder(target, output)


def test_a_job_that_is_killed_while_its_sink_is_down_comes_back_without_it(
    server: PostgresServer, tmp_path: Path
) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    log = events / "log.jsonl"
    run(tmp_path / "learned", write_log(log, shop_log()), model="none")
    index = pinned(tmp_path / "learned", output)
    target = PostgresTarget(server.uri)
    arguments = command(events, output, "--output", target.uri, "--reindex_every_seconds", "0")
    server.kill()
    first = launched(arguments)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 4, err
    assert "is the server up, and the address right?" in err
    server.start()
    job = launched(arguments)
    await_that(lambda: (users_of(output) and len(listed(target)) == 14) or job.poll() is not None)
    server.kill()
    append(log, *burst(1, 30), burst(2, 1)[0] | {"event_id": "one", "user_id": "one"})
    await_that(lambda: "one" in users_of(output) or job.poll() is not None)
    assert signalled(job, signal.SIGKILL)[0] == -signal.SIGKILL
    append(log, burst(2, 1)[0] | {"event_id": "two", "user_id": "two"})
    job = launched(arguments)
    await_that(lambda: "two" in users_of(output) or job.poll() is not None)
    server.start()
    await_that(lambda: {"one", "two"} <= listed(target) or job.poll() is not None)
    code, _, err = signalled(job, signal.SIGINT)
    assert code == 0, err
    assert "what is meant for it waits in" in err
    assert "takes rows again" in err
    assert current_lists(output) == expected_lists(index, [events], K)
    assert_books_close(output, lines_in(events))
    assert_as_in_the_folder(target, output)
