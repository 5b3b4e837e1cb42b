"""PostgreSQL away, PostgreSQL that answers no more after it committed, two writers at once: nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import OutputError
from pipeline.connectors.feeder import SinkFeeder
from pipeline.connectors.registry import make_sink
from tests.pipeline.connectors.lists import current, made_list, table_of, tombstone
from tests.pipeline.connectors.targets import PostgresTarget, opened_sink
from tests.pipeline.connectors.test_feeder import leave
from tests.pipeline.live.runs import await_that
from tests.servers.tcp_proxy import TcpProxy

pytestmark = pytest.mark.postgres


@pytest.fixture
def proxy(postgres: str) -> Iterator[TcpProxy]:
    """Between us and the server."""
    port = int(postgres.rpartition(":")[2].partition("/")[0])
    with TcpProxy(("127.0.0.1", port)) as between:
        yield between


def _through(target: PostgresTarget, proxy: TcpProxy, seconds: float) -> str:
    port = target.uri.rpartition(":")[2].partition("/")[0]
    return target.uri.replace(f":{port}/", f":{proxy.port}/") + f"&timeout_seconds={seconds:g}"


def test_a_server_that_committed_and_never_answered_is_asked_again_without_harm(
    postgres: str, proxy: TcpProxy
) -> None:
    target = PostgresTarget(postgres)
    sink = opened_sink(_through(target, proxy, 12))
    sink.write("recommendations", table_of([made_list("a", 1)]))
    # The watch breaks the silent connection after half of the time; the second try finds all done.
    proxy.lose_answer_to = b"COMMIT\0"
    lists = [made_list("a", 2), made_list("b", 1)]
    writer = threading.Thread(target=sink.write, args=("recommendations", table_of(lists)))
    writer.start()
    await_that(lambda: target.count("recommendations") == 3, 60)
    assert writer.is_alive(), "the answer came through"
    proxy.lose_answer_to = b""
    writer.join(60)
    sink.close()
    assert proxy.unheard
    assert target.current() == current([made_list("a", 2), made_list("b", 1)])
    assert target.count("recommendations") == 3


def test_a_server_that_never_answers_is_an_error_in_bounded_time(postgres: str, proxy: TcpProxy) -> None:
    target = PostgresTarget(postgres)
    sink = opened_sink(_through(target, proxy, 4))
    proxy.lose_answers.set()
    with pytest.raises(OutputError, match="recommendations cannot be written"):
        sink.write("recommendations", table_of([made_list("a", 2)]))
    sink.close()


def test_a_sink_that_was_down_gets_all_that_was_meant_for_it(
    postgres: str, proxy: TcpProxy, tmp_path: Path
) -> None:
    target = PostgresTarget(postgres)
    lists = [made_list(f"u{n % 5}", n, items=1 + n % 3) for n in range(1, 60)] + [tombstone("u1", 60)]
    with SinkFeeder("sink", tmp_path / "out", make_sink(_through(target, proxy, 2))) as feeder:
        for number, each in enumerate(lists):
            if number == 20:
                proxy.away.set()
                proxy.throw_out()
            leave(tmp_path / "out", number, each)
        await_that(lambda: feeder.counts.failures)
        assert feeder.waiting() > 0
        proxy.away.clear()
        feeder.drain(60)
    assert target.current() == current(lists)
    assert target.count("recommendations") == len(lists)


def test_two_writers_at_once_end_with_the_highest_versions(postgres: str) -> None:
    target = PostgresTarget(postgres)
    opened_sink(target.uri).close()
    lists = [made_list(f"u{n % 7}", n) for n in range(1, 80)]

    def write(order: list[int]) -> None:
        sink = opened_sink(target.uri)
        for number in order:
            sink.write("recommendations", table_of(lists[number : number + 5]))
        sink.close()

    places = list(range(0, len(lists), 5))
    writers = [threading.Thread(target=write, args=(order,)) for order in (places, places[::-1])]
    for each in writers:
        each.start()
    for each in writers:
        each.join(120)
    assert target.current() == current(lists)


def test_wrong_credentials_are_told_without_the_password(postgres: str) -> None:
    with pytest.raises(OutputError) as refused:
        make_sink(postgres.replace("postgres@", "nobody-here:hunter22@")).open()
    assert "hunter22" not in str(refused.value)
