"""A small shop's log with every kind of event in it, for tests that run the whole job."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.config import JobConfig
from pipeline.job import RunReport, run_job

Event = dict[str, Any]

START = 1_700_000_000
ITEMS = tuple(f"item{number:02d}" for number in range(14))
PRAISE = ("soft, warm and beautifully made", "fits perfectly, I love the colour")
COMPLAINTS = ("the zipper broke after a day", "terrible fabric, scratchy and see-through, sent it back")
#: Columns that name a run rather than what it found.
VERSIONS_AND_TIMES = ("state_version", "emitted_time", "scored_time")


def shop_log(seed: int = 3, users: int = 14) -> list[Event]:
    """About ten events a user, in time order: behaviour, reviews, requests, edits, retractions."""
    chance = random.Random(seed)
    events: list[Event] = []
    for number in range(users * 10):
        user, item = f"user{chance.randrange(users):02d}", chance.choice(ITEMS)
        event: Event = {
            "event_id": f"e{number:03d}",
            "user_id": user,
            "kind": chance.choice(
                ("view", "click", "cart", "purchase", "review", "comment", "rating", "query")
            ),
            "event_time": START + number * 600,
            "item_id": item,
        }
        if event["kind"] == "query":
            del event["item_id"]
            event["text"] = chance.choice(("a warm coat for winter", "something for a wedding"))
        if event["kind"] in ("review", "comment"):
            event["text"] = chance.choice(PRAISE + COMPLAINTS)
        if event["kind"] in ("review", "rating"):
            event["rating"] = chance.randrange(1, 6)
        events.append(event)
    edited = next(event for event in events if event["kind"] == "review")
    events.append(edited | {"revision": 1, "rating": 1, "text": COMPLAINTS[0]})
    events.append(retraction(next(event for event in events if event["kind"] == "purchase")))
    events.append(
        {"event_id": "p1", "user_id": "user01", "kind": "profile", "event_time": START, "style": "casual"}
    )
    return events


def burst(seed: int, count: int) -> list[Event]:
    """More feedback, with words, hours out of order, a third of it delivered twice."""
    chance = random.Random(seed)
    events: list[Event] = []
    for number in range(count):
        event: Event = {
            "event_id": f"b{seed}-{number}",
            "user_id": f"user{chance.randrange(20):02d}",
            "kind": chance.choice(("view", "purchase", "review")),
            "event_time": START + 200_000 + chance.randrange(-20_000, 20_000),
            "item_id": chance.choice(ITEMS),
        }
        if event["kind"] == "review":
            event["text"] = f"{chance.choice(PRAISE + COMPLAINTS)} {number % 7}"
        events.append(event)
    again = chance.sample(events, count // 3)
    mixed = [*events, *again]
    chance.shuffle(mixed)
    return mixed


def retraction(target: Event) -> Event:
    """The event that takes `target` back."""
    return {
        "event_id": f"retract-{target['event_id']}",
        "user_id": target["user_id"],
        "kind": "retract",
        "event_time": target["event_time"],
        "target_event_id": target["event_id"],
    }


def write_log(path: Path, events: Sequence[Event]) -> str:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return str(path)


def run(output: Path, *inputs: str, options: Sequence[str] = (), **config: Any) -> RunReport:
    """The whole job on the given files, in this process."""
    given: dict[str, Any] = {"k": 5} | config
    return run_job(
        JobConfig(inputs=inputs, output=str(output), **given),
        PipelineOptions(["--runner=FnApiRunner", *options]),
    )


def table(output: Path, name: str) -> list[dict[str, Any]]:
    """A published table's rows, in their published order."""
    rows: list[dict[str, Any]] = pq.read_table(output / name).to_pylist()
    return rows


def lists_found(output: Path) -> list[dict[str, Any]]:
    """The current lists, without the versions and times of the run that found them."""
    return [
        {name: value for name, value in row.items() if name not in VERSIONS_AND_TIMES}
        for row in table(output, "recommendations_latest")
    ]
