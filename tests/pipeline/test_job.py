"""Laws 1, 2, 3, 5 and 7 once more, through the whole job with the shipped model."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.pipeline.live.feedback_log import (
    START,
    Event,
    lists_found,
    retraction,
    run,
    shop_log,
    table,
    write_log,
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job on the log as it was written, once for all tests of this file."""
    folder = tmp_path_factory.mktemp("reference")
    report = run(folder / "out", write_log(folder / "events.jsonl", shop_log()))
    assert report.accounting.unaccounted == 0
    return folder / "out"


def in_bundles(folder: Path, events: list[Event], parts: int) -> list[str]:
    """The log split over several files, which the runner reads as elements of their own."""
    return [write_log(folder / f"part{part}.jsonl", events[part::parts]) for part in range(parts)]


@pytest.mark.parametrize("seed", [1, 2])
def test_shuffled_repeated_and_split_feedback_gives_byte_equal_lists(
    reference: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    events = shop_log()
    events += chance.sample(events, len(events) * 3 // 10)
    chance.shuffle(events)
    repeats = ["--direct_runner_bundle_repeat=1"] if seed == 2 else []
    run(tmp_path / "out", *in_bundles(tmp_path, events, 4), options=repeats)
    assert lists_found(tmp_path / "out") == lists_found(reference)


def test_every_record_is_accounted_for(tmp_path: Path) -> None:
    events = shop_log()
    broken = ["not json", '{"user_id": "ann"}', '{"event_id": "x", "user_id": "ann", "kind": "sneeze"}']
    source = tmp_path / "events.jsonl"
    write_log(source, [*events, *events[:10], events[0] | {"event_id": "far", "event_time": 9_999_999_999}])
    with source.open("a") as out:
        out.write("\n".join(broken))
    report = run(tmp_path / "out", str(source))
    counts = report.accounting
    assert counts.input == len(events) + 10 + 1 + len(broken)
    assert counts.unaccounted == 0
    assert counts.total("dead_lettered.") == len(broken) == len(table(tmp_path / "out", "dead_letters"))
    assert counts.counts["quarantined.time_in_future"] == 1
    assert counts.counts["superseded"] == 1  # the edit's first version
    assert counts.counts["accepted.control"] == 2
    assert counts.total("accepted.") == len(table(tmp_path / "out", "scored_feedback")) + 2  # retract, target


def test_a_retracted_event_leaves_the_lists_that_would_have_been_without(tmp_path: Path) -> None:
    events = shop_log()
    target = next(event for event in events if event["kind"] == "review" and event["user_id"] == "user03")
    without = [event for event in events if event["event_id"] != target["event_id"]]
    run(tmp_path / "with", write_log(tmp_path / "with.jsonl", [retraction(target), *events]))
    run(tmp_path / "without", write_log(tmp_path / "without.jsonl", without))
    told = [
        [
            {name: value for name, value in row.items() if name not in ("trigger_event_ids", "event_time")}
            for row in lists
        ]
        for lists in (lists_found(tmp_path / "with"), lists_found(tmp_path / "without"))
    ]
    assert told[0] == told[1]


def test_erasure_empties_the_lists_leaves_a_tombstone_and_leaves_the_index(tmp_path: Path) -> None:
    events = shop_log()
    erase = {"event_id": "x", "user_id": "user02", "kind": "erase", "event_time": START + 10_000_000}
    run(tmp_path / "erased", write_log(tmp_path / "erased.jsonl", [erase, *events]))
    never = [event for event in events if event["user_id"] != "user02"]
    run(tmp_path / "never", write_log(tmp_path / "never.jsonl", never), now=(START + 1_000_000) * 1_000_000)
    run(
        tmp_path / "again",
        write_log(tmp_path / "again.jsonl", [erase, *events]),
        now=(START + 1_000_000) * 1_000_000,
    )
    tombstones = [row for row in table(tmp_path / "erased", "recommendations") if row["tombstone"]]
    assert [(row["user_id"], row["items"]) for row in tombstones] == [("user02", [])]
    assert "user02" not in {row["user_id"] for row in lists_found(tmp_path / "erased")}
    assert lists_found(tmp_path / "again") == lists_found(tmp_path / "never")


def test_a_replay_that_appends_cannot_bring_an_erased_user_back(tmp_path: Path) -> None:
    source = write_log(tmp_path / "events.jsonl", shop_log())
    erase = {"event_id": "x", "user_id": "user02", "kind": "erase", "event_time": START + 10_000_000}
    run(tmp_path / "out", source, model="none")
    others = {row["user_id"] for row in lists_found(tmp_path / "out")} - {"user02"}
    erasure = write_log(tmp_path / "erase.jsonl", [erase])
    run(tmp_path / "out", erasure, model="none", if_exists="append")
    assert {row["user_id"] for row in lists_found(tmp_path / "out")} == others
    run(tmp_path / "out", source, model="none", if_exists="append")
    assert {row["user_id"] for row in lists_found(tmp_path / "out")} == others


def test_what_is_older_than_the_allowed_lateness_is_quarantined(tmp_path: Path) -> None:
    events = shop_log()
    source = write_log(
        tmp_path / "events.jsonl", [events[0] | {"event_id": "old", "event_time": START - 9e6}, *events]
    )
    report = run(tmp_path / "out", source, model="none", allowed_lateness_seconds=8_000_000)
    assert report.accounting.counts["quarantined.late"] == 1
    assert report.accounting.unaccounted == 0
    (row,) = table(tmp_path / "out", "quarantine")
    assert (row["error_code"], "old" in row["payload"]) == ("late", True)


def test_texts_that_were_read_in_part_are_in_the_books(tmp_path: Path) -> None:
    events = [
        event | {"text": "It was fine at first. " * 100} for event in shop_log() if event["kind"] == "review"
    ]
    report = run(tmp_path / "out", write_log(tmp_path / "events.jsonl", events))
    assert f"{len(events)} texts read in part" in report.accounting.notes()
    told = {row["check"]: row["value"] for row in table(tmp_path / "out", "quality")}
    assert told["accounting.note.texts_read_in_part"] == len(events)


def test_a_catalogue_without_items_gives_no_list_rather_than_an_empty_one(tmp_path: Path) -> None:
    query = {"event_id": "q", "user_id": "ann", "kind": "query", "event_time": START, "text": "a warm coat"}
    run(tmp_path / "out", write_log(tmp_path / "events.jsonl", [query]))
    assert table(tmp_path / "out", "recommendations") == []


def test_every_user_has_ranks_from_one_without_gaps_and_reasons_that_cite_the_users_own_feedback(
    reference: Path,
) -> None:
    own: dict[str, set[str]] = {}
    for event in table(reference, "scored_feedback"):
        own.setdefault(event["user_id"], set()).add(event["event_id"])
    lists: dict[str, list[int]] = {}
    cited = 0
    for row in lists_found(reference):
        lists.setdefault(row["user_id"], []).append(row["rank"])
        evidence = {event for reason in row["reasons"] for event in reason["event_ids"]}
        cited += len(evidence)
        assert evidence <= own[row["user_id"]]
        assert row["reasons"], row
    assert set(lists) == {event["user_id"] for event in shop_log()}
    assert all(ranks == list(range(1, len(ranks) + 1)) for ranks in lists.values())
    assert cited > len(lists)


def test_a_rerun_that_appends_keeps_one_current_list_a_user(reference: Path, tmp_path: Path) -> None:
    source = write_log(tmp_path / "events.jsonl", shop_log())
    run(tmp_path / "out", source)
    first = table(tmp_path / "out", "recommendations_latest")
    run(tmp_path / "out", source, if_exists="append")
    second = table(tmp_path / "out", "recommendations_latest")
    assert lists_found(tmp_path / "out") == lists_found(reference)
    assert len(table(tmp_path / "out", "recommendations")) == 2 * len({row["user_id"] for row in first})
    newer = zip(first, second, strict=True)
    assert all(after["state_version"] > before["state_version"] for before, after in newer)


def test_history_adds_one_list_per_user_and_window_and_changes_no_current_list(
    reference: Path, tmp_path: Path
) -> None:
    source = write_log(tmp_path / "events.jsonl", shop_log())
    run(tmp_path / "out", source, emit_history=True, history_window_seconds=86_400)
    assert lists_found(tmp_path / "out") == lists_found(reference)
    past = [row for row in table(tmp_path / "out", "recommendations") if row["hindsight"]]
    windows = {
        (event["user_id"], event["event_time"] // 86_400)
        for event in shop_log()
        if event["kind"] != "retract"
    }
    told = {(row["user_id"], int(row["window_end"].timestamp()) // 86_400 - 1) for row in past}
    assert told == windows
    assert len(past) == len(windows)
    assert all(
        row["window_end"] is None
        for row in table(tmp_path / "out", "recommendations")
        if not row["hindsight"]
    )


def test_words_change_the_next_list(tmp_path: Path) -> None:
    events = [event for event in shop_log() if event["user_id"] != "zoe"]
    bought = {
        "event_id": "z1",
        "user_id": "zoe",
        "kind": "purchase",
        "event_time": START,
        "item_id": "item00",
    }
    hated = bought | {
        "event_id": "z2",
        "kind": "comment",
        "text": "the zipper broke after a day, awful quality",
    }
    run(tmp_path / "silent", write_log(tmp_path / "silent.jsonl", [*events, bought]))
    run(tmp_path / "told", write_log(tmp_path / "told.jsonl", [*events, bought, hated]))

    def reasons(output: Path) -> set[str]:
        rows = [row for row in lists_found(output) if row["user_id"] == "zoe"]
        return {event for row in rows for reason in row["reasons"] for event in reason["event_ids"]}

    assert reasons(tmp_path / "silent") == {"z1"}
    assert reasons(tmp_path / "told") == set()


def test_an_empty_file_gives_empty_tables(tmp_path: Path) -> None:
    report = run(tmp_path / "out", write_log(tmp_path / "events.jsonl", []))
    assert report.accounting.input == 0
    assert table(tmp_path / "out", "recommendations_latest") == []
