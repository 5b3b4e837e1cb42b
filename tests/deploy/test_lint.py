"""The container files and manifests, by the linters and schemas of their own worlds."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.deploy.files import DOCKER, IMAGES, STACKS, manifests

pytestmark = pytest.mark.cloud


def needed(module: str) -> ModuleType:
    return pytest.importorskip(module, reason=f"{module} is missing: make test-all")


def said(*command: str | Path) -> str:
    """Nothing, where the linter has nothing to say."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("name", IMAGES)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is missing: make test-all")
    assert said(linter, "--no-color", DOCKER / name) == ""


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_one_by_the_specification_of_compose(name: str) -> None:
    needed("check_jsonschema")
    schema = "vendor.compose-spec"
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, DOCKER / name)
    assert said(*command) == ""


def test_the_schema_would_tell(tmp_path: Path) -> None:
    needed("check_jsonschema")
    wrong = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    wrong["services"]["job"]["comand"] = ["run"]
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(wrong))
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    assert "comand" in said(*command, tmp_path / "compose.yaml")


def objects() -> list[dict[str, Any]]:
    """What Kubernetes itself knows: plain objects, and the pods inside the Flink operator's."""
    cluster, *plain = manifests("livelist.yaml")
    (gpu,) = manifests("gpu.yaml")
    spec = cluster["spec"]
    return [
        *plain,
        pod("job-manager", spec["jobManager"]["podTemplate"], spec["image"]),
        pod("task-manager", spec["taskManager"]["podTemplate"], spec["image"]),
        pod("gpu", gpu["spec"]["taskManager"]["podTemplate"], spec["image"]),
    ]


def pod(name: str, template: dict[str, Any], image: str) -> dict[str, Any]:
    """A pod as the operator makes it of a template: its own container gets the cluster's image."""
    containers = [{"image": image} | container for container in template["spec"]["containers"]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": template["spec"] | {"containers": containers},
    }


@pytest.mark.parametrize("manifest", objects(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_knows_every_field(manifest: dict[str, Any]) -> None:
    needed("kubernetes_validate")
    validate = importlib.import_module("kubernetes_validate").validate
    validate(manifest, "1.31", strict=True)


def fields(**known: object) -> dict[str, Any]:
    return {"type": "object", "properties": known, "additionalProperties": False}


TEXT, WHOLE, ANY = {"type": "string"}, {"type": "integer"}, {"type": "object"}
RESOURCE = fields(cpu={"type": "number"}, memory=TEXT, ephemeralStorage=TEXT)
MANAGER = fields(podTemplate=ANY, replicas=WHOLE, resource=RESOURCE)
#: What the operator's own resource (flink.apache.org/v1beta1) holds around the pods.
OPERATOR = fields(
    flinkConfiguration={"type": "object", "additionalProperties": TEXT},
    flinkVersion={"enum": ["v1_18", "v1_19", "v1_20", "v2_0", "v2_1"]},
    image=TEXT,
    imagePullPolicy=TEXT,
    ingress=ANY,
    job=ANY,
    jobManager=MANAGER,
    logConfiguration={"type": "object", "additionalProperties": TEXT},
    mode={"enum": ["native", "standalone"]},
    podTemplate=ANY,
    restartNonce=WHOLE,
    serviceAccount=TEXT,
    taskManager=MANAGER,
)


def test_the_flink_operator_knows_every_field() -> None:
    validate = needed("jsonschema").validate
    cluster, *_ = manifests("livelist.yaml")
    (gpu,) = manifests("gpu.yaml")
    for spec in (cluster["spec"], gpu["spec"]):
        validate(spec, OPERATOR)
    wrong = cluster["spec"] | {"taskManagers": cluster["spec"]["taskManager"]}
    with pytest.raises(importlib.import_module("jsonschema").ValidationError, match="taskManagers"):
        validate(wrong, OPERATOR)
