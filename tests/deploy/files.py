"""The files under deploy/, read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKER = DEPLOY / "docker"
KUBERNETES = DEPLOY / "flink" / "kubernetes"
IMAGES = ("Dockerfile", "Dockerfile.flink")
STACKS = ("compose.yaml", "compose.flink.yaml", "compose.gpu.yaml")
REQUIREMENTS = ("worker", "image", "image-gpu")


def version() -> str:
    """Of the distribution."""
    found = re.search(r'^    version="([^"]+)",$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def services(name: str) -> dict[str, dict[str, Any]]:
    """The services of a compose file."""
    stack: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / name).read_text())["services"]
    return stack


def manifests(name: str) -> list[dict[str, Any]]:
    """The objects of a manifest file."""
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


def commands(path: Path, program: str) -> list[list[str]]:
    """The lines of a README's code blocks that run a program, split as a shell does."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
