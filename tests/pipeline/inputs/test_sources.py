"""ReadRecords gives a pipeline what reading without Beam gives, and fails before the job starts."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing import test_pipeline as beam_testing
from apache_beam.testing.util import assert_that, equal_to

from models.errors import InputError
from pipeline.inputs.sources import InputFormat, ReadRecords, iterate_records


def test_a_pipeline_reads_the_records_that_plain_reading_reads(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{1}\n{2}\n" + b"x" * 2000 + b"\n")
    (tmp_path / "b.jsonl").write_bytes(b"{3}")
    form = InputFormat(max_record_bytes=1000)
    expected = list(iterate_records([str(tmp_path)], form))
    assert len(expected) == 4
    with beam_testing.TestPipeline(runner="FnApiRunner") as pipeline:
        read = pipeline | ReadRecords([str(tmp_path)], form)
        spread = pipeline | "Rebalanced" >> ReadRecords([str(tmp_path)], form, rebalance=True)
        assert_that(read, equal_to(expected))
        assert_that(spread, equal_to(expected), label="CheckRebalanced")


def test_a_missing_column_fails_while_the_pipeline_is_built(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"who,what\nu1,i1\n")
    form = InputFormat("csv", (("user_id", "reviewer"),))
    with pytest.raises(InputError, match=r"a\.csv: the header lacks the mapped columns reviewer"):
        beam.Pipeline() | ReadRecords([str(tmp_path)], form)


def test_a_missing_file_fails_while_the_pipeline_is_built() -> None:
    with pytest.raises(InputError, match="no file matches"):
        beam.Pipeline() | ReadRecords(["missing.jsonl"])
