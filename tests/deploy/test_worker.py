"""A worker of Beam in an environment of its own: pinned packages, what `--setup_file` stages, no more."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.stager import Stager
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline.config import JobConfig
from pipeline.job import build_job, scoring_step
from pipeline.tables.output_folder import new_run_id
from pipeline.tables.sinks import prepare_output
from tests.deploy.files import DEPLOY, ROOT
from tests.deploy.test_packaging import BUILT
from tests.pipeline.live.feedback_log import lists_found, run, shop_log, write_log

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that `--setup_file=./setup.py` stages, made by Beam's own stager from a clone."""
    clone, folder = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("staged")
    for name in BUILT:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        options = PipelineOptions(["--setup_file=./setup.py", "--sdk_location=container"])
        Stager.create_job_resources(options, str(folder))
    (made,) = folder.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def python(staged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the worker's environment."""
    folder = tmp_path_factory.mktemp("worker")
    made = folder / "bin" / "python"
    pins = ["--quiet", "--require-hashes", "-r", str(DEPLOY / "requirements-worker.txt")]
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if find_spec("uv"):  # as quick as its cache is warm
        installer = [sys.executable, "-m", "uv", "pip", "install", f"--python={made}"]
    else:
        installer = [str(made), "-m", "pip", "install"]
    subprocess.run([*installer, *pins], check=True)
    # As Beam's boot does it, for what the requirements do not hold.
    subprocess.run([str(made), "-m", "pip", "install", "--quiet", "--no-deps", str(staged)], check=True)
    return made


def asked(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Without the folder that this runs in, and without what the environment puts on the path."""
    return subprocess.run(
        [str(python), "-I", "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )


@pytest.mark.parametrize("module", ["torch", "transformers", "tests"])
def test_a_worker_has_no(module: str, python: Path) -> None:
    assert "ModuleNotFoundError" in asked(python, f"import {module}").stderr


def test_a_worker_finds_nothing_missing(python: Path) -> None:
    done = asked(python, "import sys; from pipeline.cli.main import main; sys.exit(main(['doctor']))")
    assert done.returncode == 0, done.stdout


def worker(python: Path, folder: Path) -> FnApiRunner:
    """An engine whose worker is Beam's own entry point in the worker's environment."""
    entry = f"{shlex.quote(str(python))} -I -m apache_beam.runners.worker.sdk_worker_main"
    command = f"cd {shlex.quote(str(folder))} && exec {entry}"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment(command_string=command))


def test_beams_entry_point_runs_our_steps_from_the_package(python: Path, tmp_path: Path) -> None:
    questions = ["__import__('pipeline').__file__", "str('torch' in __import__('sys').modules)"]
    with beam.Pipeline(worker(python, tmp_path)) as pipeline:
        told = pipeline | beam.Create(questions) | beam.Map(eval)
        told | beam.io.WriteToText(str(tmp_path / "told"), shard_name_template="")
    where, torch = sorted((tmp_path / "told").read_text().splitlines(), reverse=True, key=len)
    assert Path(where).is_relative_to(python.parents[1])
    assert torch == "False"


def test_the_job_on_such_workers_makes_the_lists_of_one_in_this_process(python: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "events.jsonl", shop_log())
    here, there = tmp_path / "here", tmp_path / "there"
    run(here, log, threads=1)
    config, run_id = JobConfig(inputs=(log,), output=str(there), k=5, threads=1), new_run_id()
    with prepare_output(config.output, run_id), beam.Pipeline(worker(python, tmp_path)) as pipeline:
        build_job(pipeline, config, scoring_step(config), run_id)
    made, expected = lists_found(there), lists_found(here)
    assert made and made == expected
