"""The freshness of an endless job at stated rates, its sustained maximum, and what limits it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import LivelistError
from pipeline.bench.job import START, BenchedJob, Look
from pipeline.bench.population import Population, append_at_rate
from pipeline.live.freshness import quantiles_between

#: A rate is sustained while what waits at its end is less than it brings in so many seconds.
_BACKLOG_SECONDS: Final = 2.0
_START_SECONDS: Final = 180.0
_SETTLED_SECONDS: Final = 5.0
_BUSY: Final = 0.8  # of its time: a thread that limits the rest
#: The last rate that was sustained, and the first that was not: that near, or so many steps between.
_NEAR: Final = 1.2
_STEPS_BETWEEN: Final = 2
#: The job with an encoder that takes so many seconds a batch.
_SLOW_START: Final = """
import sys
from pipeline.bench.slow_encoder import slow_encoder
from pipeline.cli.main import main
with slow_encoder({seconds}):
    sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is driven, and how."""

    seconds: float = 10.0  # a step
    first_rate: float = 100.0  # events a second; each step doubles it
    last_rate: float = 12_800.0
    users: int = 2_000
    items: int = 1_000
    texts: float = 0.1  # share of events with words
    warm: int = 50_000  # events before the first step: the states of those who come most are full
    flags: Sequence[str] = ()  # of the job, besides
    rate: float | None = None  # this rate alone
    batch_seconds: float = 0.0  # more that the encoder takes for a batch
    start: str = START  # what runs the command with its arguments


@dataclass(frozen=True, slots=True)
class Step:
    """One rate."""

    rate: float  # events a second
    throughput: float  # events a second that the job took in
    behind: float  # events that waited at the end
    words_behind: float  # of texts, that waited for the list that knows their score
    words_rate: float  # events with words a second
    cpu: float  # processors that the job and its children used
    machine: float  # processors in use on this machine, whoever used them
    resident: float  # bytes at the end, of the job and its children
    bundles_busy: float  # share of the time that the thread of the bundles worked
    encoder_busy: float  # share of the time that the encoder worked
    behaviour: tuple[float, ...] = ()  # p50, p95 and p99 in seconds
    words: tuple[float, ...] = ()  # the same, to the list that knows the score

    @property
    def behaviour_sustained(self) -> bool:
        """Whether the bundles kept up."""
        return self.behind <= _BACKLOG_SECONDS * self.rate

    @property
    def sustained(self) -> bool:
        """Whether the job kept up, with its words too."""
        return self.behaviour_sustained and self.words_behind <= max(1, _BACKLOG_SECONDS * self.words_rate)


def run_bench(plan: Plan, tell: Callable[[Step], None]) -> list[Step]:
    """The steps that find the highest rate that is sustained, then one at half of it.

    `tell` is called after each step. Raises LivelistError where the job ends, or makes no list.
    """
    with driven(plan) as (job, population, log):
        steps = []
        for step in _steps(plan, job, population, log):
            tell(step)
            steps.append(step)
    return steps


@contextmanager
def driven(plan: Plan) -> Iterator[tuple[BenchedJob, Population, Path]]:
    """A job that has made its first lists, the population, and the file that it appends to."""
    with tempfile.TemporaryDirectory(prefix="livelist-bench-") as folder:
        events, output = Path(folder, "events"), Path(folder, "out")
        events.mkdir()
        population = Population(plan.users, plan.items, plan.texts)
        log = events / "log.jsonl"
        log.write_bytes(b"".join(population.line() for _ in range(plan.warm)))
        flags = [*plan.flags, "--bursts", "keep"]  # the most active of few users are no attack
        start = _SLOW_START.format(seconds=plan.batch_seconds) if plan.batch_seconds else plan.start
        with BenchedJob(events, output, flags, start) as job:
            if not job.await_that(lambda: job.metrics().get("livelist_lists_total"), _START_SECONDS):
                raise LivelistError(f"the job made no list in {_START_SECONDS:.0f} s")
            await_served(job, plan.warm, _START_SECONDS, words=not plan.batch_seconds)
            yield job, population, log


def await_served(job: BenchedJob, records: float, seconds: float, words: bool = True) -> None:
    """Until all that was read of so many records is in lists; without `words`, all behaviour.

    Or until nothing comes any more: an event that is not among the newest of its user when it is joined, or
    when its score is, is in no list.
    """
    last, since = 0.0, time.monotonic()

    def worked_off() -> bool:
        nonlocal last, since
        look = job.look()
        served, wanted = (look.served, look.accepted) if words else (look.behaviour, look.accepted_behaviour)
        if look.records + served != last:
            last, since = look.records + served, time.monotonic()
        settled = time.monotonic() - since > _SETTLED_SECONDS
        return look.records >= records and (served >= wanted or settled)

    job.await_that(worked_off, seconds)


def _steps(plan: Plan, job: BenchedJob, population: Population, log: Path) -> Iterator[Step]:
    if plan.rate is not None:
        yield _step(plan, job, population, log, plan.rate)
        return
    kept, lost, rate = 0.0, float("inf"), plan.first_rate
    between = 0
    while rate <= plan.last_rate and between <= _STEPS_BETWEEN and lost > _NEAR * kept:
        step = _step(plan, job, population, log, rate)
        yield step
        kept, lost = (rate, lost) if step.sustained else (kept, rate)
        between += lost < float("inf")
        rate = 2 * rate if lost == float("inf") else (kept * lost) ** 0.5 if kept else lost / 2
    while kept > plan.first_rate:  # again, now that states have grown with what was sent
        step = _step(plan, job, population, log, kept)
        yield step
        if step.sustained:
            break
        kept /= _NEAR
    yield _step(plan, job, population, log, (kept or plan.first_rate) / 2)


def _step(plan: Plan, job: BenchedJob, population: Population, log: Path, rate: float) -> Step:
    """Drives one rate; what waits is then worked off, so that the next step begins with nothing."""
    before, words = job.look(), population.words
    written = append_at_rate(population, log, rate, plan.seconds)
    after, words = job.look(), population.words - words
    total, most = before.records + written, 10 * plan.seconds + 30
    await_served(job, total, most, words=not plan.batch_seconds)
    return step_between(before, after, job.look(), rate, written, words)


def step_between(before: Look, after: Look, served: Look, rate: float, written: int, words: int) -> Step:
    """The figures of a rate: `after` is its end, `served` when what waited then was worked off."""
    seconds = after.time - before.time

    def gained(name: str) -> float:
        return (after.of(name) - before.of(name)) / seconds

    return Step(
        rate=rate,
        throughput=(after.records - before.records) / seconds,
        behind=written - (after.records - before.records),
        words_behind=words - (after.words - before.words),
        words_rate=words / seconds,
        cpu=max(0.0, after.usage.cpu_seconds - before.usage.cpu_seconds) / seconds,
        machine=(after.usage.machine_seconds - before.usage.machine_seconds) / seconds,
        resident=after.usage.resident,
        bundles_busy=gained("livelist_bundle_seconds_total"),
        encoder_busy=gained("livelist_inference_seconds_total"),
        behaviour=quantiles_between(before.ages("behaviour"), served.ages("behaviour")),
        words=quantiles_between(before.ages("words"), served.ages("words")),
    )


def sustained_maximum(steps: Sequence[Step]) -> float:
    """Events a second: the highest rate below all that were not kept up with; 0 where there is none."""
    lost = min((step.rate for step in steps if not step.sustained), default=float("inf"))
    return max((step.rate for step in steps if step.rate < lost), default=0.0)


def limit_of(steps: Sequence[Step], cores: int) -> str:
    """Which stage keeps the job from more, and what it is short of, in words."""
    broken = min((step for step in steps if not step.sustained), key=lambda step: step.rate, default=None)
    if broken is None:
        return "not reached: the highest rate asked for was sustained"
    stages = {
        f"the bundles, one thread that parses, joins, ranks and writes ({broken.bundles_busy:.0%} busy)": (
            not broken.behaviour_sustained or broken.bundles_busy >= _BUSY
        ),
        f"the encoder, beside it ({broken.encoder_busy:.0%} busy, {broken.words_rate:.0f} texts a second)": (
            broken.behaviour_sustained or broken.encoder_busy >= _BUSY
        ),
    }
    named = " and ".join(stage for stage, limits in stages.items() if limits)
    others = max(0.0, broken.machine - broken.cpu)
    used = f"the job used {broken.cpu:.1f} of {cores} processors, all else {others:.1f}"
    return f"at {broken.rate:,.0f} a second {named}; {used}"


def processors() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
