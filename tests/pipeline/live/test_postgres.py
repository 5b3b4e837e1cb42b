"""An endless run into a PostgreSQL that answers no more after it committed, and that is restarted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.connectors.feeder import SinkFeeder
from pipeline.connectors.identity import IDENTITY
from pipeline.live.run import LiveRun
from tests.oracle import assert_books_close, current_lists, expected_lists
from tests.pipeline.connectors.targets import PostgresTarget
from tests.pipeline.live.feedback_log import burst, run, shop_log, table, write_log
from tests.pipeline.live.runs import K, append, await_that, has_read, lines_in, live_run, pinned
from tests.servers.postgres import PostgresServer, postgres_server, why_not
from tests.servers.tcp_proxy import TcpProxy

pytestmark = pytest.mark.postgres
pytest.importorskip("psycopg", reason="psycopg is missing: make test-all")


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
    columns = ("user_id", "rank", "item_id", "state_version")
    latest = table(output, "recommendations_latest")
    assert target.current() == sorted(tuple(row[name] for name in columns) for row in latest)
    for name in ("recommendations", "scored_feedback"):
        assert target.count(name) == len(table(output, name)), name
