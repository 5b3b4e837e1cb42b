"""What workers install: the distribution, built as Beam's `--setup_file` does and as a wheel."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, version

BUILT = ("models", "transforms", "pipeline", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def done(module: str, *arguments: str) -> None:
    """Runs a module; what it says is shown when it fails."""
    command = [sys.executable, "-m", module, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git would check out, so that nothing that lies about here gets in."""
    folder = tmp_path_factory.mktemp("clone")
    for name in BUILT:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, target)
    return folder


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the command that Beam's stager runs."""
    folder = tmp_path_factory.mktemp("sdist")
    command = ["--sdist", "--no-isolation", f"--outdir={folder}", str(clone)]
    done("build", *command)
    (made,) = folder.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the source distribution, as a worker builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ["--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={folder}", str(sdist)]
    done("pip", "wheel", *command)
    (made,) = folder.glob("*.whl")
    return made


def tracked() -> set[str]:
    """The files of the three packages that the repository holds, but what is written for its readers."""
    listed = subprocess.run(
        ["git", "ls-files", "models", "transforms", "pipeline"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("this is no clone: git does not list its files")
    return {path for path in listed.stdout.splitlines() if path[-3:] != ".md" and (ROOT / path).exists()}


def packed(path: Path) -> set[str]:
    """The files of a distribution, below its root."""
    if path.suffix == ".whl":
        return set(zipfile.ZipFile(path).namelist())
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_a_distribution_holds_every_file_of_the_packages(kind: str, request: pytest.FixtureRequest) -> None:
    held = packed(request.getfixturevalue(kind))
    assert tracked() - held == set()
    for needed in ("models/default/model.onnx", "models/encoder/topics.yaml", "pipeline/cluster/pom.xml"):
        assert needed in held, needed


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_a_distribution_holds_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    held = packed(request.getfixturevalue(kind))
    tops = {name.partition("/")[0] for name in held if "/" in name}
    assert {name for name in tops if not name.startswith("livelist")} == {"models", "transforms", "pipeline"}
    assert not [name for name in held if name.startswith("tests/") or "__pycache__" in name]


def test_the_wheel_scores_where_nothing_else_of_ours_is(wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.startswith(f"livelist-{version()}-")
    target = tmp_path / "installed"
    command = ["--no-deps", "--no-index", "--quiet", f"--target={target}", str(wheel)]
    done("pip", "install", *command)
    # Isolated: neither this folder nor an installation of ours in the environment comes first.
    code = f"""
import sys
sys.path.insert(0, {str(target)!r})
import models.encoder.artefact as artefact
from pipeline.cli import main
assert main.__file__.startswith({str(target)!r}), main.__file__
assert str(artefact.DEFAULT_MODEL_PATH).startswith({str(target)!r})
sys.exit(main.main(sys.argv[1:]))
"""
    command = ["score", "--threads=1", "The zipper broke after a day.", "I love it!"]
    scored = subprocess.run(
        [sys.executable, "-I", "-c", code, *command],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    bad, good = (json.loads(line)["polarity"] for line in scored.stdout.splitlines())
    assert bad < 0 < good
