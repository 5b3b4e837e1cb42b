"""Two speeds on a cluster: a model that takes five seconds a batch holds up no list, and loses no score."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.encoder.serving import shared_pool
from pipeline.bench.freshness import quantiles, read_freshness
from pipeline.bench.population import Population, append_at_rate
from pipeline.cluster.settings import ClusterSettings
from pipeline.job import scoring_step
from tests.flink.harness import Scenario, assert_equals_oracle, busy_task_manager, cluster, kill, need_flink
from tests.flink.held_model import HOLD_SECONDS, HeldModel
from tests.pipeline.live.feedback_log import ITEMS, shop_log

pytestmark = [pytest.mark.flink]
_SUSTAINED_SECONDS = float(os.environ.get("LIVELIST_SUSTAINED_SECONDS", "20"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSettings]:
    need_flink()
    with cluster(tmp_path_factory.mktemp("cluster"), nice=0) as running:
        yield running


def test_a_held_model_holds_up_no_list_and_its_scores_follow(
    settings: ClusterSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.flink.job.TextModelHandler", HeldModel)
    scenario = Scenario(
        settings, tmp_path / "job", "held", shop_log(), {"parallelism": 1}, options={"model": None}
    )
    scenario.write(1.0)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    people, log = Population(100, ITEMS, texts=0.4), scenario.inputs / "population.jsonl"
    append_at_rate(people, log, 20, 5)
    began = time.time()
    append_at_rate(people, log, 20, _SUSTAINED_SECONDS)
    ended = time.time()
    time.sleep(2 * HOLD_SECONDS)
    # Before the drain: lists that show nothing new come with it.
    fresh = read_freshness(scenario.output, began, ended)
    append_at_rate(people, log, 20, 5)
    kill(settings, busy_task_manager(settings))  # while scores are on their way
    append_at_rate(people, log, 20, 5)
    scenario.await_checkpoint()
    scenario.finish()
    serving = scoring_step(scenario.config).serving()
    assert serving is not None
    scenario.scorer = shared_pool(serving).scorer
    assert_equals_oracle(scenario)
    half, most, _ = quantiles(fresh.behaviour)
    print(f"behaviour {quantiles(fresh.behaviour)} of {len(fresh.behaviour)}, texts {quantiles(fresh.texts)}")
    assert half < HOLD_SECONDS / 2 and most < HOLD_SECONDS, "lists of behaviour waited for the model"
    assert quantiles(fresh.texts)[0] > HOLD_SECONDS / 2, "the model was not held"
