"""An endless job at one rate for long: whether its memory stays as it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import Final, NamedTuple

from models.errors import LivelistError
from pipeline.bench.job import BenchedJob, Look
from pipeline.bench.live import Plan, Step, await_served, driven, step_between
from pipeline.bench.population import append_at_rate

_SAMPLES: Final = 600  # of a soak, at most
_SOONEST_SECONDS: Final = 1.0  # between two
#: What a job takes up at first is no growth: that part of a soak is not judged.
_WARM_UP: Final = 0.4
_MEGABYTE: Final = 2**20


class Sample(NamedTuple):
    """A job at a moment of its soak."""

    seconds: float  # since the soak began
    resident: float  # bytes of the job's own process
    family: float  # bytes, with its children: what learns the index
    state: float  # bytes of what it keeps of users and texts, which grows up to its limits


@dataclass(frozen=True, slots=True)
class Growth:
    """What a soak came to, after its warm-up."""

    seconds: float  # judged
    megabytes: float  # at its end
    slope: float  # megabytes a minute, of the job's own process
    state_slope: float  # megabytes a minute that what is kept of users and texts took of it
    spread: float  # megabytes: half of the samples are that near to the line

    def is_above(self, megabytes_a_minute: float) -> bool:
        """Whether the job's own process grew faster than that, what it keeps of users included."""
        return self.slope > megabytes_a_minute

    def told(self) -> str:
        """One line for people."""
        return (
            f"memory: {self.megabytes:,.0f} MB; {self.slope:+.2f} MB a minute over the last "
            f"{self.seconds / 60:.1f} minutes (+-{self.spread:.1f} MB around it), of which kept of users "
            f"{self.state_slope:+.2f}"
        )


def run_soak(plan: Plan, seconds: float) -> tuple[Step, list[Sample]]:
    """Drives `plan.rate` for so long. Raises LivelistError where the job ends."""
    assert plan.rate is not None
    samples: list[Sample] = []
    with driven(plan) as (job, population, log):
        before, ended = job.look(), threading.Event()
        every = max(_SOONEST_SECONDS, seconds / _SAMPLES)
        watching = threading.Thread(target=_watch, args=(job, before, ended, every, samples), daemon=True)
        watching.start()
        words = population.words
        written = append_at_rate(population, log, plan.rate, seconds)
        after, words = job.look(), population.words - words
        ended.set()
        watching.join()
        await_served(job, before.records + written, 60)
        return step_between(before, after, job.look(), plan.rate, written, words), samples


def _watch(
    job: BenchedJob, before: Look, ended: threading.Event, every: float, samples: list[Sample]
) -> None:
    while not ended.wait(every):
        with suppress(LivelistError):  # the one who drives sees it, too
            samples.append(sample_of(job.look(), before.time))


def sample_of(look: Look, began: float) -> Sample:
    """A look as a sample of the soak that began then, in seconds since 1970."""
    resident, state = look.of("livelist_resident_bytes"), look.of("livelist_state_bytes")
    return Sample(look.time - began, resident, look.usage.resident, state)


def growth_of(samples: Sequence[Sample]) -> Growth:
    """The slope of what follows the warm-up. Raises LivelistError for a soak that was too short to tell."""
    begin = _WARM_UP * samples[-1].seconds if samples else 0.0
    judged = [sample for sample in samples if sample.seconds >= begin]
    if len(judged) < 3:
        raise LivelistError("the soak was too short to tell how memory grows: choose a longer one")
    minutes = [sample.seconds / 60 for sample in judged]
    resident = [sample.resident / _MEGABYTE for sample in judged]
    slope, start = linear_regression(minutes, resident)
    off = [abs(here - start - slope * at) for at, here in zip(minutes, resident, strict=True)]
    states = linear_regression(minutes, [sample.state / _MEGABYTE for sample in judged])
    seconds = judged[-1].seconds - judged[0].seconds
    return Growth(seconds, resident[-1], slope, states.slope, median(off))
