"""Parts of the tests that run beside one another fail where one of them does, and show what each says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def parts(tmp_path: Path) -> tuple[str, str]:
    """The paths of a test that passes and of one that fails."""
    (tmp_path / "test_good.py").write_text("def test_good(): assert True\n")
    (tmp_path / "test_bad.py").write_text("def test_bad(): assert not 'this part fails'\n")
    return str(tmp_path / "test_good.py"), str(tmp_path / "test_bad.py")


def beside(*parts: str) -> subprocess.CompletedProcess[str]:
    """What the parts come to."""
    command = [sys.executable, "-m", "tests.side_by_side", *(f"{part} --rootdir=/" for part in parts)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_parts_have_to_pass(parts: tuple[str, str]) -> None:
    good, bad = parts
    assert beside(good, good).returncode == 0
    for order in ((good, bad), (bad, good)):
        done = beside(*order)
        assert done.returncode == 1
        assert "1 passed" in done.stdout and "this part fails" in done.stdout


def test_a_part_that_is_killed_is_a_failure(parts: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_dies.py").write_text(
        "import os, signal\ndef test_dies(): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert beside(parts[0], str(tmp_path / "test_dies.py")).returncode == 1


def test_a_part_without_a_test_is_a_failure(parts: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text("")
    assert beside(parts[0], str(tmp_path / "test_none.py")).returncode != 0
