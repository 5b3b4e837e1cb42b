"""ReadRecords: files, folders, globs, stdin and URLs as raw records of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam import typehints

from models.adapters.base import FeedbackAdapter, RawRecord
from pipeline.inputs.finding import Input, check_inputs, open_input, total_bytes
from pipeline.inputs.reading import (
    MAX_RECORD_BYTES,
    InputFormat,
    check_headers,
    iterate_records,
    read_feedback,
    read_items,
    read_records,
    read_told,
)
from pipeline.progress import PROGRESS, READING_AND_SCORING, READING_ITEMS

__all__ = [
    "MAX_RECORD_BYTES",
    "Input",
    "InputFormat",
    "ReadRecords",
    "check_headers",
    "check_inputs",
    "iterate_records",
    "open_input",
    "read_feedback",
    "read_items",
    "read_records",
]


@dataclass
class ReadRecords(beam.PTransform):
    """Pipeline -> PCollection[RawRecord], a file at a time on any worker, in bounded memory.

    Inputs are listed and opened once while the pipeline is built, so that a missing file or column
    is an InputError before the job starts. `feedback` is off for items, whose header needs no user.
    With `rebalance`, records are spread over the workers, where one large file would keep all
    that follows on one of them; it costs a shuffle.
    """

    patterns: list[str]
    form: InputFormat = field(default_factory=InputFormat)
    feedback: bool = True
    rebalance: bool = False

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection[RawRecord]:
        inputs = check_inputs(self.patterns)
        check_headers(inputs, self.form.adapter, self.form.max_record_bytes, self.feedback)
        named = [(each.path, each.name) for each in inputs]
        read = _ReadFile(self.form.adapter, self.form.max_record_bytes, self.feedback, total_bytes(inputs))
        records = (
            pipeline
            | "ListInputs" >> beam.Create(named)
            | "SpreadInputs" >> beam.Reshuffle()
            | "ReadInput" >> beam.ParDo(read)
        )
        return records | "SpreadRecords" >> beam.Reshuffle() if self.rebalance else records


@typehints.with_input_types(typehints.Tuple[str, str])
@typehints.with_output_types(typehints.Tuple[bytes, str, bytes, str])
class _ReadFile(beam.DoFn):
    def __init__(
        self, adapter: FeedbackAdapter, max_record_bytes: int, feedback: bool, bytes_in_all: int
    ) -> None:
        self._adapter = adapter
        self._max_record_bytes = max_record_bytes
        self._feedback = feedback
        self._bytes_in_all = bytes_in_all

    def process(self, named: tuple[str, str]) -> Iterator[RawRecord]:
        PROGRESS.enter(READING_AND_SCORING if self._feedback else READING_ITEMS, self._bytes_in_all)
        return read_told(Input(*named), self._adapter, self._max_record_bytes, self._feedback)
