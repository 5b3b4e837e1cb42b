"""The endless job on the engine of this process: source, recommender and sinks as one fused stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from models.accounting import DEAD_LETTERED
from models.errors import InputError, OutputError
from models.records import DeadLetter, FeedbackEvent, TopK
from models.tables import ScoredRow
from pipeline.config import JobConfig
from pipeline.job import recommender_config
from pipeline.live.engine import engine_for_long
from pipeline.live.follow import follow_log
from pipeline.live.state import LiveState, live_state
from pipeline.recommender import build_live_recommender
from pipeline.tables.snapshots import WriteStream
from transforms.clean_feedback import CleanFeedback
from transforms.judge_lateness import JudgeLateness
from transforms.parse_feedback import ParseFeedback

#: The only engine in this process that runs it.
ENGINE: Final = "FnApiRunner"


def run_pipeline(
    config: JobConfig, options: PipelineOptions, score_feedback: beam.PTransform, run_id: str
) -> None:
    """Runs until the source reports its end. Raises the errors of our own steps as they are."""
    pipeline = beam.Pipeline(ENGINE, options=options)
    build_live(pipeline, config, score_feedback, run_id)
    try:
        with engine_for_long():
            pipeline.run().wait_until_finish()
    except RuntimeError as error:
        raise _told_plainly(error) from error


def _told_plainly(error: RuntimeError) -> Exception:
    """The error of ours that the engine wrapped into the text of its own, or its own."""
    for kind in (OutputError, InputError):
        _, found, message = str(error).rpartition(f"{kind.__module__}.{kind.__name__}: ")
        if found:
            return kind(message.split("\n")[0].split(" [while running")[0])
    return error


def build_live(
    pipeline: beam.Pipeline, config: JobConfig, score_feedback: beam.PTransform, run_id: str
) -> None:
    """Source, recommender and sinks, as one stage: this engine holds back all that lies behind a shuffle.

    So no step may be a GroupByKey, a Flatten or wait for a side input or a timer; outputs that go to one
    table are written apart.
    """
    records = pipeline | "FollowFeedback" >> follow_log(run_id)
    parsed = records | "ParseFeedback" >> ParseFeedback(cleaning=config.cleaning)
    cleaned = parsed.events | "CleanFeedback" >> CleanFeedback(config.cleaning)
    events, writes, counts = _in_time(cleaned.events, config, run_id)
    made = build_live_recommender(events, score_feedback, recommender_config(config), keep_in=run_id)
    lists = made["recommendations"] | "NoteLists" >> beam.ParDo(_NoteLists(run_id))
    rows = made["scored_feedback"] | "NoteAccepted" >> beam.ParDo(_NoteAccepted(run_id))
    writes |= {
        "Lists": {"recommendations": lists, "scored_feedback": rows},
        "Unread": {"dead_letters": parsed.dead_letters, "quarantine": parsed.quarantine},
        "Unclean": {"dead_letters": cleaned.dead_letters, "quarantine": cleaned.quarantine},
        "Unfit": {"dead_letters": made["dead_letters"], "quarantine": made["quarantine"]},
    }
    for name, tables in writes.items():
        tables | f"Write{name}" >> WriteStream(config.output, run_id)
    failed = made["dead_letters"] | "CountFailed" >> beam.Map(_count_dead_letter)
    counts += [parsed.accounting, cleaned.accounting, failed, made["accounting"], made["suppressed"]]
    for number, counted in enumerate(counts):
        counted | f"Account{number}" >> beam.ParDo(_Account(run_id))


def _in_time(
    events: beam.PCollection[FeedbackEvent], config: JobConfig, run_id: str
) -> tuple[beam.PCollection[FeedbackEvent], dict[str, dict[str, beam.PCollection]], list[beam.PCollection]]:
    """The events that are in time, the table of the others, and their counts."""
    if config.allowed_lateness_seconds is None:
        return events, {}, []
    judged = events | "JudgeLateness" >> JudgeLateness(config.allowed_lateness, run_id)
    return judged.events, {"Late": {"quarantine": judged.quarantine}}, [judged.accounting]


def _count_dead_letter(letter: DeadLetter) -> tuple[str, int]:
    return DEAD_LETTERED + letter.error_code, 1


class _WithState(beam.DoFn):
    """Reaches the run's state in this process."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def setup(self) -> None:
        self._state: LiveState = live_state(self._run_id)


class _NoteLists(_WithState):
    def process(self, made: TopK) -> Iterator[TopK]:
        self._state.listed(made)
        yield made


class _NoteAccepted(_WithState):
    def process(self, row: ScoredRow) -> Iterator[ScoredRow]:
        self._state.accepted(row)
        yield row


class _Account(_WithState):
    def process(self, counted: tuple[str, int]) -> None:
        self._state.count(*counted)
