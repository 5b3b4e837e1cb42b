"""What became of the catalogue is counted and told beside the books of the feedback."""

from __future__ import annotations

from pathlib import Path

from pipeline.validate import validate
from tests.pipeline.live.feedback_log import run, shop_log, write_log

CATALOGUE = """\
{"item_id": "item01", "title": "Warm coat"}
{"item_id": "item02", "title": "Linen skirt"}
{"item_id": "item01", "title": "Warm wool coat"}
{"title": "nameless"}
not json
"""


def test_items_that_are_rejected_or_come_twice_are_counted_beside_the_books(tmp_path: Path) -> None:
    events = write_log(tmp_path / "events.jsonl", shop_log(users=3))
    items = tmp_path / "items.jsonl"
    items.write_text(CATALOGUE)
    report = run(tmp_path / "out", events, items=(str(items),), model="none")
    books = report.accounting
    expected = "catalogue: 5 read = 2 items + 1 with an id of another + 2 rejected (see dead_letters)"
    assert books.catalogue_line() == expected
    assert books.unaccounted == 0
    assert not [note for note in books.notes() if "items" in note]
    assert report.rows["dead_letters"] == books.total("dead_lettered.") + 2
    found = validate([events], [str(items)])
    assert (found.catalogue, found.catalogue_repeated) == (3, 1)
    assert found.catalogue_rejected.total() == 2


def test_without_a_catalogue_nothing_is_told_of_one(tmp_path: Path) -> None:
    events = write_log(tmp_path / "events.jsonl", shop_log(users=3))
    assert run(tmp_path / "out", events, model="none").accounting.catalogue_line() == ""
