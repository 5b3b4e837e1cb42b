"""The container files, as far as they can be held to the code without building them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.jars import _DRIVER, _NOT_FOR_THE_CLUSTER, FLINK_RELEASE

DOCKER = Path(__file__).parents[2] / "deploy" / "docker"
FILES = ("Dockerfile", "Dockerfile.flink")


@pytest.mark.parametrize("name", FILES)
def test_an_image_runs_as_nobody_of_importance_on_pinned_bases(name: str) -> None:
    lines = (DOCKER / name).read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] not in ("root", "0", "0:0")
    bases = re.findall(r"^(?:FROM|ARG BASE=)\s*(\S+)", "\n".join(lines), re.MULTILINE)
    assert all(":" in base and "latest" not in base for base in bases if base != "${BASE}")


def test_packages_are_installed_by_their_hashes() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert "--require-hashes -r /tmp/requirements.txt" in text
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for path in copied.split():
            assert (DOCKER.parents[1] / path).exists(), path


def test_the_flink_image_takes_the_jars_that_a_cluster_here_takes() -> None:
    text = (DOCKER / "Dockerfile.flink").read_text()
    assert f"FROM flink:{FLINK_RELEASE}-" in text
    assert "|".join(f"{prefix}*" for prefix in _NOT_FOR_THE_CLUSTER) in text
    assert _DRIVER in text


def test_the_local_stack_listens_on_loopback_and_shares_one_disk() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    assert all(service["volumes"] == ["shared:/shared"] for service in services.values())
    assert services["workers"]["entrypoint"][:3] == ["python", "-m", "pipeline.cluster.worker_pool"]
