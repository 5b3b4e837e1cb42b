"""The freshness of an endless job at stated rates, its sustained maximum, and what limits it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from models.errors import LivelistError
from pipeline.bench.freshness import Freshness, quantiles, read_freshness
from pipeline.bench.job import BenchedJob
from pipeline.bench.population import Population, append_at_rate

#: A rate is sustained while what waits at its end is less than it brings in so many seconds.
_BACKLOG_SECONDS: Final = 2.0
_START_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is driven, and how."""

    seconds: float = 10.0  # a step
    first_rate: int = 100  # events a second; each step doubles it
    last_rate: int = 12_800
    users: int = 2_000
    items: int = 1_000
    texts: float = 0.1  # share of events with words
    warm: int = 2_000  # events before the first step
    flags: Sequence[str] = ()  # of the job, besides
    rate: int | None = None  # one rate, for a soak


@dataclass(frozen=True, slots=True)
class Step:
    """One rate."""

    rate: float  # events a second
    began: float  # seconds since 1970
    ended: float
    throughput: float  # events a second that the job took in
    backlog: float  # events that waited at the end
    cpu: float  # of one core
    resident: float  # bytes at the end
    text_lag: float  # bytes of the log that waited for the encoder at the end
    fresh: Freshness | None = None

    @property
    def sustained(self) -> bool:
        """Whether the job kept up."""
        return self.backlog <= _BACKLOG_SECONDS * self.rate

    @property
    def behaviour(self) -> tuple[float, ...]:
        """p50, p95 and p99 in seconds; empty where nothing was measured."""
        return quantiles(self.fresh.behaviour) if self.fresh else ()

    @property
    def texts(self) -> tuple[float, ...]:
        """The same of words."""
        return quantiles(self.fresh.texts) if self.fresh else ()


def run_bench(plan: Plan, tell: Callable[[Step], None]) -> list[Step]:
    """The steps up to the first rate that is not sustained, then one at half of the highest that was.

    `tell` is called after each step, before freshness is known. Raises LivelistError where the job ends.
    """
    with tempfile.TemporaryDirectory(prefix="livelist-bench-") as folder:
        events, output = Path(folder, "events"), Path(folder, "out")
        events.mkdir()
        population = Population(plan.users, plan.items, plan.texts)
        log = events / "log.jsonl"
        log.write_bytes(b"".join(population.line() for _ in range(plan.warm)))
        steps = []
        with BenchedJob(events, output, plan.flags) as job:
            if not job.await_that(lambda: job.metrics().get("livelist_lists_total"), _START_SECONDS):
                raise LivelistError(f"the job made no list in {_START_SECONDS:.0f} s")
            for step in _steps(plan, job, population, log):
                tell(step)
                steps.append(step)
        return [replace(step, fresh=read_freshness(output, step.began, step.ended)) for step in steps]


def _steps(plan: Plan, job: BenchedJob, population: Population, log: Path) -> Iterator[Step]:
    if plan.rate is not None:
        yield _step(plan, job, population, log, plan.rate)
        return
    rate, most = plan.first_rate, 0.0
    while rate <= plan.last_rate:
        step = _step(plan, job, population, log, rate)
        yield step
        if not step.sustained:
            most = max(most, min(step.throughput, rate))
            break
        most, rate = step.rate, rate * 2
    yield _step(plan, job, population, log, most / 2)


def _step(plan: Plan, job: BenchedJob, population: Population, log: Path, rate: float) -> Step:
    """Drives one rate; what waits is then worked off, so that the next step begins with nothing."""
    before, began = job.metrics(), time.time()
    written = append_at_rate(population, log, rate, plan.seconds)
    after, ended = job.metrics(), time.time()
    seconds = ended - began
    taken = _gained(before, after, 'livelist_records_total{account="input"}')
    total = before['livelist_records_total{account="input"}'] + written
    job.await_that(lambda: job.records() >= total, 10 * plan.seconds + 30)
    return Step(
        rate=rate,
        began=began,
        ended=ended,
        throughput=taken / seconds,
        backlog=written - taken,
        cpu=_gained(before, after, "process_cpu_seconds_total") / seconds,
        resident=after["livelist_resident_bytes"],
        text_lag=after.get("livelist_text_lag_bytes", 0.0),
    )


def _gained(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def sustained_maximum(steps: Sequence[Step]) -> float:
    """Events a second: the highest rate that was kept up with, or what was taken in of one that was not."""
    kept = [step.rate for step in steps if step.sustained]
    taken = [step.throughput for step in steps if not step.sustained]
    return max([*kept, *taken])


def limit_of(steps: Sequence[Step], cores: int) -> str:
    """What keeps the job from more, in words."""
    broken = next((step for step in steps if not step.sustained), None)
    if broken is None:
        return "not reached: the highest rate asked for was sustained"
    if broken.cpu >= 0.9 * cores:
        return f"the {cores} cores of this machine ({broken.cpu:.0%} of one used)"
    if broken.cpu >= 0.8:
        return f"the one thread that runs bundles ({broken.cpu:.0%} of one core used by the process)"
    return (
        f"what waits besides the processor, or other work on this machine ({broken.cpu:.0%} of one core used)"
    )
