"""Beam's RunInference comes without torch, wherever that is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


def told(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.train
def test_a_worker_does_not_import_a_torch_that_is_there() -> None:
    imported = "import sys, pipeline.flink.steward, pipeline.live.run; print('torch' in sys.modules)"
    assert told(imported) == "False"


@pytest.mark.train
def test_torch_can_be_imported_before_and_after() -> None:
    tensor = "torch.zeros(2).sum().item()"
    assert told(f"import transforms.run_inference, torch; print({tensor})") == "0.0"
    assert told(f"import torch, transforms.run_inference; print({tensor})") == "0.0"
