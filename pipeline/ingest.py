"""IngestFeedback: from files to clean events and the catalogue, with all that was rejected."""

from __future__ import annotations

from typing import NamedTuple

import apache_beam as beam

from models.records import DeadLetter, FeedbackEvent, Item
from pipeline.config import JobConfig
from pipeline.sources import ReadRecords
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
    parsed = records | "ParseFeedback" >> ParseFeedback(
        form.name, form.columns, form.constants, config.cleaning
    )
    cleaned = parsed.events | "CleanFeedback" >> CleanFeedback(config.cleaning)
    dead_letters = [parsed.dead_letters, cleaned.dead_letters]
    if config.items:
        catalogue = pipeline | "ReadItems" >> ReadRecords(list(config.items), form, feedback=False)
        items_parsed = catalogue | "ParseItems" >> ParseItems(form.name, form.columns, form.constants)
        items = items_parsed.items
        dead_letters.append(items_parsed.dead_letters)
    else:
        items = pipeline | "NoItems" >> beam.Create([])
    return Ingested(
        cleaned.events,
        items,
        tuple(dead_letters),
        (parsed.quarantine, cleaned.quarantine),
        (parsed.accounting, cleaned.accounting),
    )
