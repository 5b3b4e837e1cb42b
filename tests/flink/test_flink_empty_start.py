"""Jobs that begin with nothing: no index, no catalogue, an empty folder or topic. Everybody gets a list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.ranking.index import ItemIndex, read_pointer
from pipeline.cluster.settings import ClusterSettings
from pipeline.config import JobConfig
from pipeline.flink.plan import FlinkPlan
from pipeline.flink.submit import drain, submit
from tests.flink.harness import K
from tests.flink.waiting import await_that
from tests.oracle import current_lists, expected_lists
from tests.pipeline.connectors.services import KafkaService
from tests.pipeline.live.feedback_log import Event, shop_log

pytestmark = [pytest.mark.flink]
BOUGHT: Event = {
    "event_id": "new", "user_id": "u-new", "kind": "purchase", "item_id": "brand-new",
    "event_time": 1_700_100_000,
}  # fmt: skip


def begun(settings: ClusterSettings, folder: Path, name: str, source: str) -> Path:
    """A job on nothing; returns its output."""
    output = folder / "out"
    config = JobConfig(
        inputs=(source,), output=str(output), k=K, model="none",
        snapshot_every_seconds=1.0, reindex_every_seconds=3_600.0,
    )  # fmt: skip
    submit(config, settings, FlinkPlan(name=name))
    return output


def knows(output: Path, item_id: str) -> bool:
    index = read_pointer(output)
    return index is not None and ItemIndex.open(index).find(item_id) >= 0


def users_with_lists(output: Path) -> set[str]:
    return {row[0] for row in current_lists(output)}


def users_expected(output: Path, log: Path) -> set[str]:
    """Whom the index that is published now has something to show to."""
    index = read_pointer(output)
    assert index is not None
    return {row[0] for row in expected_lists(index, [log], K)}


def lines(events: list[Event]) -> list[str]:
    return [json.dumps(event) for event in events]


def test_who_acts_before_the_first_index_gets_a_list_without_acting_again(
    settings: ClusterSettings, tmp_path: Path
) -> None:
    log = tmp_path / "in" / "events.jsonl"
    log.parent.mkdir()
    output = begun(settings, tmp_path, "early", str(log.parent))
    log.write_text("".join(f"{line}\n" for line in lines(shop_log(21))))
    await_that(lambda: len(users_with_lists(output)) >= 14, 240)
    with log.open("a") as file:
        file.write(json.dumps(BOUGHT) + "\n")
    await_that(lambda: knows(output, "brand-new"), 120)  # long before the next learning that is due by time
    drain(settings, "early")
    assert users_with_lists(output) == users_expected(output, log)


def test_a_drain_waits_for_the_first_index(settings: ClusterSettings, tmp_path: Path) -> None:
    log = tmp_path / "in" / "events.jsonl"
    log.parent.mkdir()
    output = begun(settings, tmp_path, "drained", str(log.parent))
    log.write_text("".join(f"{line}\n" for line in lines(shop_log(22))))
    drain(settings, "drained")
    expected = users_expected(output, log)
    assert len(expected) >= 14
    assert users_with_lists(output) == expected


def test_a_job_that_only_pulls_learns_its_index_from_what_it_wrote(
    settings: ClusterSettings, kafka: KafkaService, tmp_path: Path
) -> None:
    events = shop_log(23)
    channel = kafka.channel(partitions=2)
    channel.publish([line.encode() for line in lines(events)])
    output = begun(settings, tmp_path, "pulls", channel.uri)
    log = tmp_path / "all.jsonl"
    log.write_text("".join(f"{line}\n" for line in lines(events)))
    await_that(lambda: len(users_with_lists(output)) >= 14, 240)
    drain(settings, "pulls")
    index = read_pointer(output)
    assert index is not None
    assert ItemIndex.open(index).items == len({event["item_id"] for event in events if "item_id" in event})
    assert users_with_lists(output) == users_expected(output, log)
