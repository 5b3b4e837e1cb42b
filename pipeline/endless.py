"""The endless job on engines that keep states and time: the graph between their sources and their sinks."""

from __future__ import annotations

from typing import Final

import apache_beam as beam

from models.accounting import DEAD_LETTERED, Accounting
from models.adapters.base import RawRecord
from models.records import DeadLetter
from models.tables import QualityRow
from models.times import wall_clock
from pipeline.config import JobConfig
from pipeline.connectors.uris import is_connector
from pipeline.job import recommender_config
from pipeline.recommender import build_live_recommender
from transforms.clean_feedback import CleanFeedback
from transforms.parse_feedback import ParseFeedback

#: The write of a job whose books are kept in a state.
BOOKS: Final = "Books"


def sorted_inputs(config: JobConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inputs that are files, and those that are pulled."""
    pulled = tuple(part for part in config.inputs if is_connector(part))
    return tuple(part for part in config.inputs if part not in pulled), pulled


def endless_tables(
    records: beam.PCollection[RawRecord],
    config: JobConfig,
    score_feedback: beam.PTransform,
    books: beam.PTransform | None = None,
) -> dict[str, dict[str, beam.PCollection]]:
    """Raw records -> what is written: name of the write -> table -> its records.

    A table has several writes, one for each step that makes rows of it: a step that gathered them
    would cost a shuffle. The names of the steps are those of the states that an engine restores.
    `books` takes the counts of all steps to rows of `quality`, as the write `BOOKS`; without it each
    bundle tells what it counted.
    """
    parsed = records | "ParseFeedback" >> ParseFeedback(cleaning=config.cleaning)
    cleaned = parsed.events | "CleanFeedback" >> CleanFeedback(config.cleaning)
    made = build_live_recommender(
        cleaned.events,
        score_feedback,
        recommender_config(config),
        panes_of_bundles=True,
    )
    failed = made["dead_letters"] | "CountFailed" >> beam.Map(_count_dead_letter)
    counts = {
        "Parsed": parsed.accounting,
        "Cleaned": cleaned.accounting,
        "Failed": failed,
        "Joined": made["accounting"],
        "Held": made["suppressed"],
    }
    writes = {
        "Lists": {name: made[name] for name in ("recommendations", "scored_feedback")},
        "Unread": {"dead_letters": parsed.dead_letters, "quarantine": parsed.quarantine},
        "Unclean": {"dead_letters": cleaned.dead_letters, "quarantine": cleaned.quarantine},
        "Unfit": {"dead_letters": made["dead_letters"], "quarantine": made["quarantine"]},
    }
    if books is not None:
        writes[BOOKS] = {"quality": tuple(counts.values()) | "KeepBooks" >> books}
        return writes
    for name, counted in counts.items():
        rows = counted | f"Tell{name}" >> beam.Map(_quality_row)
        writes[f"Counts{name}"] = {"quality": rows}
    return writes


def _count_dead_letter(letter: DeadLetter) -> tuple[str, int]:
    return DEAD_LETTERED + letter.error_code, 1


def _quality_row(counted: tuple[str, int]) -> QualityRow:
    """What one bundle counted; a bundle that ran again after a fault counts again."""
    now = wall_clock()
    (row, _) = Accounting(dict([counted])).rows()
    return QualityRow(row.check, row.value, now, now)
