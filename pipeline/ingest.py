"""IngestFeedback: from files to clean events and the catalogue, with all that was rejected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam

from models.accounting import ITEMS_READ, ITEMS_REJECTED, ITEMS_REPEATED
from models.records import DeadLetter, FeedbackEvent, Item
from pipeline.config import JobConfig
from pipeline.inputs.sources import ReadRecords
from transforms.clean_feedback import CleanFeedback
from transforms.parse_feedback import ParseFeedback, ParseItems


class Ingested(NamedTuple):
    """What comes in, by what became of it."""

    events: beam.PCollection[FeedbackEvent]
    items: beam.PCollection[Item]
    dead_letters: tuple[beam.PCollection[DeadLetter], ...]
    quarantine: tuple[beam.PCollection[DeadLetter], ...]
    accounting: tuple[beam.PCollection[tuple[str, int]], ...]


def ingest(pipeline: beam.Pipeline, config: JobConfig) -> Ingested:
    """Reads, parses and cleans as `config` says."""
    form = config.form
    records = pipeline | "ReadFeedback" >> ReadRecords(list(config.inputs), form)
    parsed = records | "ParseFeedback" >> ParseFeedback(form.adapter, config.cleaning)
    cleaned = parsed.events | "CleanFeedback" >> CleanFeedback(config.cleaning)
    dead_letters = [parsed.dead_letters, cleaned.dead_letters]
    accounting = [parsed.accounting, cleaned.accounting]
    if config.items:
        catalogue = pipeline | "ReadItems" >> ReadRecords(list(config.items), form, feedback=False)
        items_parsed = catalogue | "ParseItems" >> ParseItems(form.adapter)
        items = items_parsed.items
        dead_letters.append(items_parsed.dead_letters)
        accounting += [
            items | "CountItems" >> CountItems(),
            items_parsed.dead_letters | "CountRejectedItems" >> beam.FlatMap(_count_rejected_item),
        ]
    else:
        items = pipeline | "NoItems" >> beam.Create([])
    return Ingested(
        cleaned.events,
        items,
        tuple(dead_letters),
        (parsed.quarantine, cleaned.quarantine),
        tuple(accounting),
    )


class CountItems(beam.PTransform):
    """PCollection[Item] -> (code, count) of entries read, and of those whose id another entry has."""

    def expand(self, items: beam.PCollection[Item]) -> beam.PCollection[tuple[str, int]]:
        return (
            items
            | "OneAnId" >> beam.Map(lambda item: (item.item_id, 1)).with_output_types(tuple[str, int])
            | "EntriesAnId" >> beam.CombinePerKey(sum)
            | "CountEntries" >> beam.FlatMap(_count_entries)
        )


def _count_entries(of_id: tuple[str, int]) -> Iterator[tuple[str, int]]:
    _, entries = of_id
    yield ITEMS_READ, entries
    if entries > 1:
        yield ITEMS_REPEATED, entries - 1


def _count_rejected_item(letter: DeadLetter) -> Iterator[tuple[str, int]]:
    yield ITEMS_READ, 1
    yield ITEMS_REJECTED, 1
