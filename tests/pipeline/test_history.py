"""A history without a pipeline: the same cleaning, scores and joins, and items that stay left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.errors import InputError
from pipeline.config import JobConfig
from pipeline.history import load_history
from pipeline.job import NO_MODEL


def event(user: str, kind: str, item: str | None, minute: int, **more: object) -> dict[str, object]:
    time = f"2024-03-01T00:{minute:02d}:00Z"
    fields = {"event_id": f"{user}-{minute}", "user_id": user, "kind": kind, "event_time": time, **more}
    return fields | ({} if item is None else {"item_id": item})


def config(folder: Path, events: Sequence[dict[str, object]], model: str | None = NO_MODEL) -> JobConfig:
    path = folder / "events.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in events))
    return JobConfig(inputs=(str(path),), output=str(folder / "out"), model=model)


EVENTS = [
    event("ann", "view", "a", 1),
    event("ann", "like", "b", 2),
    event("ann", "query", None, 3, text="something warm"),
    event("ann", "purchase", "c", 4),
    event("ben", "like", "a", 5),
]


def test_two_items_left_out_one_after_the_other_are_both_gone(tmp_path: Path) -> None:
    history = load_history(config(tmp_path, EVENTS))
    view = next(view for view in history.views() if view.user_id == "ann")
    once = history.without_item(view, "c")
    twice = history.without_item(once, "b")
    assert [one.item_id for one in once.interactions] == ["a", "b"]
    assert [one.item_id for one in twice.interactions] == ["a"]
    assert len(twice.queries) == 1


def test_a_view_without_an_item_is_the_view_of_a_history_without_it(tmp_path: Path) -> None:
    history = load_history(config(tmp_path, EVENTS))
    view = history.without_item(history.views()[0], "b")
    never = load_history(config(tmp_path, [line for line in EVENTS if line.get("item_id") != "b"]))
    assert view == never.views()[0]


def test_duplicates_and_order_make_no_difference(tmp_path: Path) -> None:
    plain = load_history(config(tmp_path, EVENTS)).views()
    assert load_history(config(tmp_path, [*reversed(EVENTS), *EVENTS])).views() == plain


def test_only_the_asked_users_are_read_but_the_clock_is_everybodys(tmp_path: Path) -> None:
    history = load_history(config(tmp_path, EVENTS), ["ann"])
    assert [view.user_id for view in history.views()] == ["ann"]
    assert history.clock == load_history(config(tmp_path, EVENTS)).clock


def test_words_turn_a_purchase_negative(tmp_path: Path) -> None:
    words = event("ann", "review", "c", 9, text="It broke after a day. Terrible quality, I hate it.")
    (view,) = load_history(config(tmp_path, [*EVENTS, words], model=None), ["ann"]).views()
    assert next(one for one in view.interactions if one.item_id == "c").value < 0


def test_a_history_without_events_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="livelist validate"):
        load_history(config(tmp_path, [{"kind": "view"}]))
