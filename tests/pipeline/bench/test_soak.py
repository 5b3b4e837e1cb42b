"""Memory of an endless run: bundles leave nothing behind, and a soak tells growth from noise."""

from __future__ import annotations

import gc
import sys
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from random import Random

import pytest

from models.errors import LivelistError
from pipeline.bench import soak
from pipeline.bench.live import Step
from pipeline.bench.plot import plot_memory
from pipeline.bench.soak import Sample, growth_of
from pipeline.cli.main import main
from pipeline.live import follow
from pipeline.live.state import LiveState
from tests.pipeline.live.feedback_log import shop_log
from tests.pipeline.live.runs import append, await_that, live_run

_MEGABYTE = 2**20


def soaked(megabytes_a_minute: float, warm_up: float = 0.0) -> list[Sample]:
    """Ten minutes, noisy, of a job that first takes up `warm_up` megabytes."""
    chance = Random(7)
    samples = []
    for second in range(0, 600, 2):
        taken = 300 + warm_up * min(1.0, second / 120) + megabytes_a_minute * second / 60
        size = (taken + chance.gauss(0, 3)) * _MEGABYTE
        samples.append(Sample(float(second), size, size + 200 * _MEGABYTE, 5 * _MEGABYTE))
    return samples


def test_a_soak_tells_growth_from_warm_up_and_noise() -> None:
    assert growth_of(soaked(0.0, warm_up=150)).slope == pytest.approx(0.0, abs=0.5)
    leaking = growth_of(soaked(4.0, warm_up=150))
    assert leaking.slope == pytest.approx(4.0, abs=0.5)
    assert leaking.state_slope == pytest.approx(0.0)
    assert "MB a minute over the last 6.0 minutes" in leaking.told()


def test_a_soak_that_is_too_short_says_so() -> None:
    with pytest.raises(LivelistError, match="choose a longer one"):
        growth_of([])


@pytest.mark.parametrize(
    ("grew", "most", "code"), [(4.0, 3.0, 1), (4.0, 5.0, 0), (0.0, 1.0, 0), (4.0, None, 0)]
)
def test_a_soak_that_grew_faster_than_allowed_ends_with_one(
    grew: float,
    most: float | None,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    step = Step(100, 100, 0, 0, 10, 0.5, 1.0, 400 * _MEGABYTE, 0.5, 0.1)
    monkeypatch.setattr(soak, "run_soak", lambda plan, seconds: (step, soaked(grew, warm_up=150)))
    allowed = [] if most is None else ["--most_mb_a_minute", str(most)]
    assert main(["bench", "live", "--soak_minutes", "10", *allowed]) == code
    assert ("memory grew faster than --most_mb_a_minute 3" in capfd.readouterr().out) == bool(code)


def test_a_bound_on_growth_without_a_soak_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "live", "--most_mb_a_minute", "1"]) == 2
    assert "goes with --soak_minutes" in capfd.readouterr().err


def test_the_plot_of_a_soak_has_the_job_its_children_and_the_states() -> None:
    drawn = ET.fromstring(plot_memory(soaked(1.0), "100 events a second"))
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len((line.get("points") or "").split()) for line in lines] == [300, 300, 300]


def _moved(state: LiveState, bundle: int) -> bool:
    return state.moved > bundle


def _blocks_after(state: LiveState, log: Path, bundles: int) -> int:
    """Python's memory blocks that live after so many more bundles of feedback that came before."""
    for _ in range(bundles):
        before = state.moved
        append(log, *shop_log()[:5])
        await_that(partial(_moved, state, before))
    gc.collect()
    return sys.getallocatedblocks()


def test_bundles_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "MIN_BUNDLE_SECONDS", 0.0)
    events = tmp_path / "events"
    events.mkdir()
    log = events / "log.jsonl"
    append(log, *shop_log())
    with live_run(events, tmp_path / "out", reindex_every_seconds=0) as (state, _):
        await_that(lambda: state.lists)
        warm = _blocks_after(state, log, 40)
        grown = _blocks_after(state, log, 100) - warm
    # The rows of the books are some three a bundle; what the engine gathers of one, some twenty.
    assert grown < 8 * 100


def test_a_short_soak_prints_how_memory_grew_and_draws_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "soak.svg"
    given = ["--soak_minutes", "0.15", "--rate", "40", "--users", "50", "--items", "50", "--model", "none"]
    assert main(["bench", "live", *given, "--plot", str(plot)]) == 0
    said = capfd.readouterr().out
    assert "MB a minute over the last 0.1 minutes" in said
    assert plot.read_text().startswith("<svg")
