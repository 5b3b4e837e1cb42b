"""Public sets are read whole, without a script; skipped where the sets are not at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.records import DeadLetter, FeedbackEvent, Item
from pipeline.inputs.reading import InputFormat, read_feedback, read_items

DATA = Path(os.environ.get("LIVELIST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def data(name: str) -> str:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in LIVELIST_DATA")
    return str(path)


def accepted(name: str, form: str) -> list[FeedbackEvent]:
    rows = list(read_feedback([data(name)], InputFormat(form)))
    assert [row for row in rows if isinstance(row, DeadLetter)] == []
    return [row for row in rows if isinstance(row, FeedbackEvent)]


@pytest.mark.parametrize(
    ("name", "form", "events", "users", "items"),
    [
        (
            "amazon_musical_instruments_5core_2014/Musical_instruments_reviews.csv.zip",
            "amazon",
            10_261,
            1_429,
            900,
        ),
        ("amazon_gift_cards_5core_2018/Gift_Cards_5.json.gz", "amazon", 2_972, 458, 148),
        ("amazon_all_beauty_5core_2018/All_Beauty_5.json.gz", "amazon", 5_269, 991, 85),
        ("movielens_100k/ml-100k.inter", "movielens", 100_000, 943, 1_682),
    ],
)
def test_no_row_of_a_public_set_is_rejected(
    name: str, form: str, events: int, users: int, items: int
) -> None:
    read = accepted(name, form)
    assert len(read) == len({event.event_id for event in read}) == events
    assert len({event.user_id for event in read}) == users
    assert len({event.item_id for event in read}) == items
    assert all(event.rating is not None for event in read)


@pytest.mark.parametrize(
    ("name", "form", "count"),
    [
        ("amazon_gift_cards_5core_2018/meta_Gift_Cards.json.gz", "amazon", 1_547),
        ("movielens_100k/ml-100k.item", "movielens", 1_682),
    ],
)
def test_public_catalogues_have_titles(name: str, form: str, count: int) -> None:
    items = [item for item in read_items([data(name)], InputFormat(form)) if isinstance(item, Item)]
    assert len(items) == count
    assert sum(bool(item.title) for item in items) > 0.99 * count
