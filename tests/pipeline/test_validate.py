"""The report of an input says what a run would do with it."""

from __future__ import annotations

from pathlib import Path

from models.cleaning import CleaningConfig
from pipeline.validate import EXAMPLES_PER_CODE, validate
from tests.pipeline.inputs.test_reading import NOW, line


def test_the_report_counts_everything_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    items = tmp_path / "items.jsonl"
    path.write_bytes(
        line(1, text="good")
        + line(2, user_id="u2", kind="click", rating=None)
        + line(1, text="bad")
        + b"oops\n" * 5
        + line(4, rating=9)
    )
    items.write_bytes(b'{"item_id": "i1"}\n{}\n')
    report = validate([str(path)], [str(items)], cleaning=CleaningConfig(), now=NOW)
    assert report.records == 9 == report.accepted + report.rejected.total()
    assert report.rejected == {"invalid_json": 5, "rating_out_of_scale": 1}
    assert report.table_of("rating_out_of_scale") == "quarantine"
    assert [row.source_position for row in report.examples["invalid_json"]] == [
        f"events.jsonl:{number:010d}" for number in range(4, 4 + EXAMPLES_PER_CODE)
    ]
    assert report.kinds == {"review": 2, "click": 1}
    assert (report.users, report.items, report.with_text, report.with_rating) == (2, 1, 2, 2)
    assert (report.first_time, report.last_time) == (NOW - 2_000_000, NOW - 1_000_000)
    assert report.repeated_ids == 1
    assert (report.catalogue, report.catalogue_rejected) == (1, {"missing_field": 1})
    assert not report.is_clean


def test_a_clean_input_is_clean(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(1))
    assert validate([str(path)], now=NOW).is_clean
