"""ParseFeedback and CleanFeedback sort every record into one output, and their counts add up."""

from __future__ import annotations

import json

import apache_beam as beam
from apache_beam.testing import test_pipeline as beam_testing
from apache_beam.testing.util import assert_that, equal_to

from models.adapters.base import RawRecord, raw_record
from models.cleaning import CleaningConfig
from transforms.clean_feedback import CleanFeedback
from transforms.parse_feedback import ParseFeedback, ParseItems

NOW = 1_769_860_800_000_000


def record(number: int, **members: object) -> RawRecord:
    event = {"event_id": f"e{number}", "user_id": "u1", "kind": "view", "event_time": 1769860800, **members}
    return raw_record(json.dumps(event).encode(), f"f:{number:010d}")


RECORDS = [
    record(1, item_id="i1"),
    record(2, item_id="i1", rating=9),
    record(3),
    record(4, event_time=None),
    record(5, kind="bought"),
    raw_record(b"not json", "f:0000000006"),
    (b"start", "f:0000000007", b"bytes=9 sha256=0", "too_long: too long"),
]
EXPECTED = {
    "input": 7,
    "dead_lettered.invalid_json": 1,
    "dead_lettered.missing_field": 1,
    "dead_lettered.too_long": 1,
    "dead_lettered.unknown_kind": 1,
    "quarantined.missing_time": 1,
    "quarantined.rating_out_of_scale": 1,
}


def test_every_record_goes_to_one_output_and_the_counts_add_up() -> None:
    cleaning = CleaningConfig(missing_time="quarantine")
    with beam_testing.TestPipeline(runner="FnApiRunner") as pipeline:
        parsed = pipeline | beam.Create(RECORDS) | ParseFeedback(cleaning=cleaning, now=NOW)
        cleaned = parsed.events | CleanFeedback(cleaning, NOW)
        dead = (parsed.dead_letters, cleaned.dead_letters) | "Dead" >> beam.Flatten()
        quarantine = (parsed.quarantine, cleaned.quarantine) | "Quarantine" >> beam.Flatten()
        counts = (parsed.accounting, cleaned.accounting) | "Counts" >> beam.Flatten()
        ids = cleaned.events | "Ids" >> beam.Map(lambda event: event.event_id)
        assert_that(ids, equal_to(["e1"]), label="CheckEvents")
        positions = dead | "DeadPositions" >> beam.Map(lambda row: int(row.source_position[-2:]))
        assert_that(positions, equal_to([3, 5, 6, 7]), label="CheckDead")
        doubted = quarantine | "QuarantinePositions" >> beam.Map(lambda row: int(row.source_position[-2:]))
        assert_that(doubted, equal_to([2, 4]), label="CheckQuarantine")
        summed = counts | "Sum" >> beam.CombinePerKey(sum)
        assert_that(summed, equal_to(list(EXPECTED.items())), label="CheckCounts")


def test_items_are_parsed_beside_their_rejects() -> None:
    records = [raw_record(b'{"item_id": "i1"}', "f:1"), raw_record(b"{}", "f:2")]
    with beam_testing.TestPipeline(runner="FnApiRunner") as pipeline:
        parsed = pipeline | beam.Create(records) | ParseItems(now=NOW)
        assert_that(parsed["items"] | beam.Map(lambda item: item.item_id), equal_to(["i1"]))
        codes = parsed.dead_letters | "Codes" >> beam.Map(lambda row: row.error_code)
        assert_that(codes, equal_to(["missing_field"]), label="CheckRejects")
