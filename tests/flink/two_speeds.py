"""Two speeds on a cluster: a model that takes five seconds a batch holds up no list, and loses no score."""

from __future__ import annotations

import os
import time
from typing import Final

import pytest

from pipeline.bench.freshness import quantiles, read_freshness
from pipeline.bench.population import Population, send_at_rate
from tests.flink.harness import Scenario, assert_equals_oracle, busy_task_manager, kill
from tests.flink.held_model import HOLD_SECONDS, HeldModel
from tests.pipeline.live.feedback_log import ITEMS

_SUSTAINED_SECONDS: Final = float(os.environ.get("LIVELIST_SUSTAINED_SECONDS", "20"))
_RATE: Final = 20.0


def assert_two_speeds(scenario: Scenario, monkeypatch: pytest.MonkeyPatch, killed: bool = False) -> None:
    """Sends words for a while, kills a worker that has some if asked to, and compares with the oracle."""
    monkeypatch.setattr("pipeline.flink.job.TextModelHandler", HeldModel)
    scenario.options = {"model": None}
    scenario.write(1.0)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    people = Population(100, ITEMS, texts=0.4)
    _send(scenario, people, 5)
    began = time.time()
    _send(scenario, people, _SUSTAINED_SECONDS)
    ended = time.time()
    time.sleep(2 * HOLD_SECONDS)
    # Before the drain: lists that show nothing new come with it.
    fresh = read_freshness(scenario.output, began, ended)
    if killed:
        _send(scenario, people, 5)
        kill(scenario.settings, busy_task_manager(scenario.settings))  # while scores are on their way
        _send(scenario, people, 5)
        scenario.await_checkpoint()
    scenario.finish()
    scenario.read_as_the_job()
    assert_equals_oracle(scenario)
    half, most, _ = quantiles(fresh.behaviour)
    print(f"behaviour {quantiles(fresh.behaviour)} of {len(fresh.behaviour)}, texts {quantiles(fresh.texts)}")
    assert half < HOLD_SECONDS / 2 and most < HOLD_SECONDS, "lists of behaviour waited for the model"
    assert quantiles(fresh.texts)[0] > HOLD_SECONDS / 2, "the model was not held"


def _send(scenario: Scenario, people: Population, seconds: float) -> None:
    """Feedback of now, to where the job reads."""
    with (scenario.inputs / "population.jsonl").open("ab", buffering=0) as file:

        def send(lines: list[bytes]) -> None:
            file.write(b"".join(lines))
            if scenario.channel is not None:
                scenario.channel.publish([line.strip() for line in lines])

        send_at_rate(people, send, _RATE, seconds)
