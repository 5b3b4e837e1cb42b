"""A held model on a cluster that follows files; `test_flink_pulled` has it with Pub/Sub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster.settings import ClusterSettings
from tests.flink.harness import Scenario, cluster, need_flink
from tests.flink.two_speeds import assert_two_speeds
from tests.pipeline.live.feedback_log import shop_log

pytestmark = [pytest.mark.flink]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSettings]:
    need_flink()
    with cluster(tmp_path_factory.mktemp("cluster"), nice=0) as running:
        yield running


def test_a_held_model_holds_up_no_list_and_its_scores_follow(
    settings: ClusterSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario(settings, tmp_path / "job", "held", shop_log(), {"parallelism": 1})
    assert_two_speeds(scenario, monkeypatch, killed=True)
