"""The container files, as far as they can be held to the code without building them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from pipeline.cli import run as run_command
from pipeline.cli.flink import parse
from pipeline.cli.parsing import CommandParser
from pipeline.cluster.jars import _DRIVER, _NOT_FOR_THE_CLUSTER, FLINK_RELEASE
from pipeline.flags.parsed import job_config
from tests.deploy.files import (
    DEPLOY,
    DOCKER,
    IMAGES,
    KUBERNETES,
    REQUIREMENTS,
    ROOT,
    STACKS,
    manifests,
    services,
    version,
)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_of_importance_on_pinned_bases(name: str) -> None:
    text = (DOCKER / name).read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    names = {stage.split("AS ")[1].split()[0] for stage in stages if "AS " in stage.splitlines()[0]}
    bases = {stage.split()[0] for stage in stages} - names
    assert bases and all(":" in base and "latest" not in base for base in bases)
    final = [stage for stage in stages if "ENTRYPOINT" in stage] or stages[-1:]
    for stage in final:
        users = re.findall(r"^USER (\S+)", stage, re.MULTILINE)
        assert users == ["9999:9999"]


@pytest.mark.parametrize("name", IMAGES)
def test_all_that_an_image_copies_is_in_the_repository(name: str) -> None:
    text = (DOCKER / name).read_text().replace("${RUNTIME}", "")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert copied
    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path
    assert (DEPLOY / "requirements-image-gpu.txt").exists()


def test_packages_are_installed_by_their_hashes() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert "--require-hashes -r /tmp/requirements.txt" in text
    installs = re.findall(r"pip install .*", text)
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_pin_has_a_hash_and_none_is_torch(name: str) -> None:
    text = (DEPLOY / f"requirements-{name}.txt").read_text()
    pins = re.split(r"\n(?=[a-z])", "\n".join(text.splitlines()[1:]))
    assert len(pins) > 40
    for pin in pins:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", pin) and "--hash=sha256:" in pin, (
            pin.splitlines()[0]
        )
    names = {re.split(r"[=\[]", pin)[0] for pin in pins}
    assert not names & {"torch", "transformers"}
    assert len(names & {"onnxruntime", "onnxruntime-gpu"}) == 1
    assert "apache-beam" in names


def test_the_images_hold_the_clients_of_every_source_and_sink() -> None:
    for name in ("image", "image-gpu"):
        text = (DEPLOY / f"requirements-{name}.txt").read_text()
        for client in (
            "google-cloud-pubsub",
            "google-cloud-bigquery",
            "confluent-kafka",
            "psycopg",
            "deltalake",
        ):
            assert f"\n{client}==" in text or f"\n{client}[" in text, client


def test_a_gpu_finds_cuda_in_the_pinned_packages() -> None:
    text = (DEPLOY / "requirements-image-gpu.txt").read_text()
    for library in ("nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12", "nvidia-cudnn-cu12"):
        assert f"\n{library}==" in text, library


def test_beam_in_the_image_is_the_beam_that_is_pinned() -> None:
    (pinned,) = set(
        re.findall(
            r"^apache-beam(?:\[\w+\])?==(\S+)", (DEPLOY / "requirements-image.txt").read_text(), re.MULTILINE
        )
    )
    text = (DOCKER / "Dockerfile").read_text()
    python = re.findall(r"FROM python:(\d\.\d+)", text)
    assert re.findall(r"apache/beam_python(\S+)_sdk:(\S+)", text) == [(python[0], pinned)]
    assert f"python{python[0].replace('.', '')}-template-launcher-base:" in text


def test_the_flink_image_takes_the_jars_that_a_cluster_here_takes() -> None:
    text = (DOCKER / "Dockerfile.flink").read_text()
    assert f"FROM flink:{FLINK_RELEASE}-" in text
    assert "|".join(f"{prefix}*" for prefix in _NOT_FOR_THE_CLUSTER) in text
    assert _DRIVER in text


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_listens_on_loopback_in_images_of_this_release(name: str) -> None:
    for service in services(name).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        image = service["image"]
        assert ":" in image and not image.endswith("latest")
        if image.startswith("livelist:"):
            assert image.partition(":")[2] in (version(), f"{version()}-gpu")
        if "dockerfile" in service.get("build", {}):
            target = service["build"].get("target")
            dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
            assert target is None or f" AS {target}\n" in dockerfile


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_job_of_a_stack_is_one_that_this_release_runs(name: str) -> None:
    command = services(name)["job"]["command"]
    assert command[0] == "run"
    flags = run_command.parse(CommandParser("livelist run"), command[1:])
    config = job_config(flags, {})
    assert flags.streaming and flags.beam == ["--streaming"]
    stack = services("compose.yaml")
    (source,) = config.inputs
    assert (
        source.startswith("kafka://broker:9092/feedback?") and "--topic=feedback" in stack["topic"]["command"]
    )
    assert config.sinks == ("postgresql://livelist@postgres/livelist",)
    assert stack["postgres"]["environment"]["POSTGRES_USER"] == "livelist"
    assert (flags.metrics_host, flags.metrics_port) == ("0.0.0.0", 9400)
    assert stack["job"]["ports"] == ["127.0.0.1:9400:9400"]
    assert config.output.startswith("/data/") and stack["job"]["volumes"] == ["lists:/data"]
    assert "-g 9999 /data" in (DOCKER / "Dockerfile").read_text()


def test_a_gpu_is_only_added_to_the_job() -> None:
    plain, gpu = services("compose.yaml")["job"], services("compose.gpu.yaml")
    assert list(gpu) == ["job"]
    assert gpu["job"]["command"] == [*plain["command"], "--providers=cuda"]


def test_no_secret_stands_in_a_stack() -> None:
    for name in STACKS:
        for service in services(name).values():
            for key, value in (service.get("environment") or {}).items():
                if "PASSWORD" in key or key.endswith("_KEY"):
                    assert value is None or value.startswith("${"), key


def test_the_flink_stack_shares_one_disk_and_runs_our_workers() -> None:
    stack = services("compose.flink.yaml")
    assert all(service["volumes"] == ["shared:/shared"] for service in stack.values())
    assert stack["workers"]["entrypoint"] == pool_command()
    assert attaches(stack["launcher"], "command")


def test_manifests_name_the_images_and_the_workers_of_this_release() -> None:
    (cluster, server, launcher, _), (gpu,) = manifests("livelist.yaml"), manifests("gpu.yaml")
    flink = f"REGISTRY/livelist-flink:{FLINK_RELEASE}"
    assert cluster["spec"]["image"] == flink
    assert server["spec"]["template"]["spec"]["containers"][0]["image"] == flink
    assert attaches(launcher["spec"]["template"]["spec"]["containers"][0], "args")
    assert cluster["spec"]["flinkVersion"] == "v" + "_".join(FLINK_RELEASE.split(".")[:2])
    for spec, tag in ((cluster, version()), (gpu, f"{version()}-gpu")):
        _, workers = spec["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
        assert workers["image"] == f"REGISTRY/livelist:{tag}"
        assert workers["command"] == pool_command()


def test_nobody_in_a_manifest_is_root() -> None:
    for manifest in manifests("livelist.yaml"):
        for pod in pods(manifest):
            assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 9999


def test_a_gpu_patch_changes_the_workers_alone() -> None:
    (gpu,) = manifests("gpu.yaml")
    assert list(gpu["spec"]) == ["taskManager"]
    flink, workers = gpu["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    assert "resources" not in flink
    assert workers["resources"]["limits"]["nvidia.com/gpu"] == 1


def pods(manifest: object) -> list[dict[str, dict[str, object]]]:
    """Every pod specification in a manifest."""
    if not isinstance(manifest, dict):
        return []
    found = [manifest] if "containers" in manifest and "securityContext" in manifest else []
    return found + [pod for value in manifest.values() for pod in pods(value)]


def attaches(container: dict[str, Any], key: str) -> bool:
    """Whether a container of this release attaches to the cluster, with flags that the command takes."""
    args = parse(CommandParser("livelist"), container[key][1:])
    assert container["image"].endswith(f"livelist:{version()}") and container[key][0] == "flink"
    assert args.workers.endswith(f":{pool_command()[3]}")
    shared = (args.cluster, args.checkpoints, args.savepoints)
    return args.action == "attach" and all(folder.startswith("/shared/") for folder in shared)


def pool_command() -> list[str]:
    """How the pool of Python workers is started on the port that the job names."""
    return ["python", "-m", "pipeline.cluster.worker_pool", "50000", "/tmp", "64"]


def test_every_file_of_deploy_is_listed() -> None:
    told = (DEPLOY / "README.md").read_text()
    for path in DEPLOY.iterdir():
        assert path.name == "README.md" or f"`{path.name}{'/' if path.is_dir() else ''}`" in told, path.name
    assert yaml.safe_load((KUBERNETES / "gpu.yaml").read_text())
