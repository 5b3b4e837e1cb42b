"""Endless runs over a real Kafka and Pub/Sub: killed, delivered again, restarted; equal to the oracle."""

from __future__ import annotations

import json
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from pipeline.connectors.registry import make_source
from pipeline.live.run import LiveRun
from tests.oracle import assert_books_close, current_lists, expected_lists
from tests.pipeline.connectors.services import Channel, KafkaChannel, KafkaService
from tests.pipeline.live.feedback_log import Event, burst, shop_log, write_log
from tests.pipeline.live.runs import K, await_that, command, has_read, launched, live_run, pinned, signalled

pytestmark = pytest.mark.java
_POISON: Final = (b"poison \xff\x00", b"two\nlines", b"[]")


def in_disorder(events: Sequence[Event], seed: int = 4) -> list[Event]:
    """The same, hours out of order."""
    mixed = list(events)
    random.Random(seed).shuffle(mixed)
    return mixed


def encoded(events: Sequence[Event]) -> list[bytes]:
    return [json.dumps(event).encode() for event in events]


def impatient(arguments: list[str]) -> list[str]:
    """The command with short leases, so that what a dead job held comes again soon."""
    return [
        sys.executable,
        "-c",
        f"import pipeline.connectors.pubsub_leases as p; p.LEASE_SECONDS = 10; {arguments[2]}",
        *arguments[3:],
    ]


def dying(arguments: list[str], module: str, step: str) -> list[str]:
    """The command, which kills itself with SIGKILL where it would call a step for the first time."""
    owner, _, method = step.partition(".")
    die = f"setattr(m.{owner}, {method!r}, lambda *a: os.kill(os.getpid(), {int(signal.SIGKILL)}))"
    start = arguments[2]
    return [sys.executable, "-c", f"import os, {module} as m; {die}; {start}", *arguments[3:]]


def spooled(output: Path) -> int:
    """Messages on disk, each once."""
    return sum(path.read_bytes().count(b"\n") for path in (output / ".state" / "spool").glob("*/*.log"))


def test_a_job_that_is_killed_between_pull_and_acknowledgement_ends_with_the_oracles_lists(
    channel: Channel, learned: Path, tmp_path: Path
) -> None:
    output, log = tmp_path / "out", tmp_path / "oracle.jsonl"
    index = pinned(learned, output)
    events = in_disorder([*shop_log(), *burst(1, 60)])
    write_log(log, events)
    messages = [*encoded(events), *_POISON]
    third = len(messages) // 3
    # A broker gives a dead member's partitions to the next one after this time.
    uri = channel.uri + ("&session.timeout.ms=6000" if isinstance(channel, KafkaChannel) else "")
    source = type(make_source(uri))
    arguments = command(Path(uri), output, "--reindex_every_seconds", "0")
    arguments[arguments.index("--input") + 1] = uri
    arguments = impatient(arguments)
    steps = (("pipeline.live.spool", "Spool.append"), (source.__module__, f"{source.__name__}.commit"))
    for attempt, step in enumerate(steps):
        channel.publish(messages[attempt * third : (attempt + 1) * third])
        job = launched(dying(arguments, *step))
        err = job.communicate(timeout=120)[1]
        assert job.returncode == -signal.SIGKILL, err
    channel.publish(messages[2 * third :])
    job = launched(arguments)
    await_that(lambda: spooled(output) >= len(messages) or job.poll() is not None, 300)
    code, out, err = signalled(job, signal.SIGINT)
    assert code == 0, err
    assert f"{len(messages)} read = " in out
    assert current_lists(output) == expected_lists(index, [log], K)
    assert_books_close(output, len(messages))


def test_a_restart_reads_nothing_again_that_was_acknowledged(
    channel: Channel, learned: Path, tmp_path: Path
) -> None:
    output, log = tmp_path / "out", tmp_path / "oracle.jsonl"
    index = pinned(learned, output)
    events = in_disorder(shop_log())
    half = len(events) // 2
    channel.publish(encoded(events[:half]))
    with live_run(channel.uri, output, reindex_every_seconds=0) as (state, _):
        await_that(lambda: has_read(state, half), 120)
    channel.publish(encoded(events[half:]))
    pullers: list[LiveRun] = []
    with live_run(channel.uri, output, watch=pullers.append, reindex_every_seconds=0) as (state, _):
        await_that(lambda: has_read(state, len(events)), 120)
    (puller,) = pullers[0].pullers
    assert (puller.received, puller.repeated) == (len(events) - half, 0)
    write_log(log, events)
    assert current_lists(output) == expected_lists(index, [log], K)
    assert_books_close(output, len(events))


def test_a_broker_that_restarts_loses_no_list(kafka: KafkaService, learned: Path, tmp_path: Path) -> None:
    output, log, channel = tmp_path / "out", tmp_path / "oracle.jsonl", kafka.channel()
    index = pinned(learned, output)
    events = in_disorder(shop_log())
    half = len(events) // 2
    write_log(log, events)
    with live_run(channel.uri, output, reindex_every_seconds=0) as (state, _):
        channel.publish(encoded(events[:half]))
        await_that(lambda: has_read(state, half), 120)
        kafka.server.kill()
        kafka.server.start()
        channel.publish(encoded(events[half:]))
        await_that(lambda: has_read(state, len(events)), 120)
    assert current_lists(output) == expected_lists(index, [log], K)
    assert_books_close(output, len(events))
