"""Say what is installed, whether the model is intact and what is missing; ends with 1 if a run would fail."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

from models.errors import DeploymentError, LivelistError
from pipeline.cli.console import output_console, progress, quiet_libraries
from pipeline.cli.parsing import CommandParser

EXAMPLE: Final = "livelist doctor"

NEEDED: Final = (
    "apache-beam",
    "duckdb",
    "msgpack",
    "numpy",
    "pyarrow",
    "pyyaml",
    "rich",
    "scipy",
    "tokenizers",
    "zstandard",
)
RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
#: Extra -> (what it is for, modules that show that it is there).
EXTRAS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "train": ("train and export a model", ("torch", "transformers", "onnx")),
    "aws": ("s3://", ("boto3",)),
    "gcp": ("Dataflow, Pub/Sub, gs://", ("google.cloud.pubsub",)),
    "kafka": ("Kafka", ("confluent_kafka",)),
    "postgres": ("PostgreSQL", ("psycopg",)),
    "delta": ("Delta tables", ("deltalake",)),
    "ui": ("livelist ui, the page", ("starlette", "uvicorn")),
}

#: Runner -> what tells what it needs, as Checks.
_RUNNERS: Final = {
    "flink": "pipeline.cluster.checks:flink_checks",
    "dataflow": "pipeline.dataflow.checks:dataflow_checks",
    "prism": "pipeline.prism_run:prism_checks",
}

Level = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `broken` makes the exit code 1."""

    level: Level
    name: str
    what: str
    remedy: str = ""


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """`--model`, `--runner` and `--json`."""
    parser.add_argument("--model", metavar="FOLDER", help="an exported model (default: the shipped one)")
    parser.add_argument(
        "--providers", default="cpu", metavar="NAMES", help="that must be there (default: cpu)"
    )
    parser.add_argument("--runner", choices=tuple(_RUNNERS), help="look besides at what it needs here")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Look at everything and print it."""
    quiet_libraries()
    with progress("looking around"):
        findings = [
            *_system(),
            *_packages(),
            *_model(args.model, args.providers),
            *_runner(),
            *_extras(),
            _java(),
            *(_needed_by(args.runner) if args.runner else ()),
        ]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    return 1 if any(finding.level == "broken" for finding in findings) else 0


def _system() -> Iterator[Finding]:
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding(
        "ok" if supported else "broken",
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, {_cores()} cores",
        "" if supported else "use Python 3.11, 3.12 or 3.13",
    )
    keyed = bool(os.environ.get("LIVELIST_USER_ID_KEY"))
    how = "pseudonyms (LIVELIST_USER_ID_KEY is set)" if keyed else "raw, unless --user_id_key is given"
    yield Finding("ok", "user ids", how)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _packages() -> Iterator[Finding]:
    for name in ("livelist", *NEEDED):
        found = _version(name)
        yield Finding(
            "ok" if found else "broken", name, found or "not installed", "" if found else "make install"
        )
    runtimes = [f"{name} {found}" for name in RUNTIMES if (found := _version(name))]
    if len(runtimes) == 1:
        yield Finding("ok", "onnxruntime", runtimes[0])
    elif runtimes:
        remedy = "pip uninstall both, then install livelist[cpu] or livelist[gpu]"
        yield Finding("broken", "onnxruntime", " and ".join(runtimes) + " overwrite each other", remedy)
    else:
        yield Finding("broken", "onnxruntime", "not installed", "pip install 'livelist[cpu]' (or [gpu])")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _model(model: str | None, providers: str) -> Iterator[Finding]:
    try:
        from models.encoder.artefact import DEFAULT_MODEL_PATH
        from models.encoder.scorer import ScoringFailure, TextScorer
        from pipeline.flags.values import provider_names

        yield Finding("ok", "providers", _providers(provider_names(providers)))
        scorer = TextScorer(model or DEFAULT_MODEL_PATH, provider_names(providers))
        artefact = scorer.artefact
        size = f"{artefact.size / 1e6:.0f} MB"
        yield Finding("ok", "model", f"{artefact.name} {artefact.version}, {size}, hashes verified")
        scored = scorer.score(["The zipper broke after a day."])[0]
        if isinstance(scored, ScoringFailure):
            yield Finding("broken", "scoring", scored.reason)
        else:
            yield Finding("ok", "scoring", f"a broken zipper has polarity {scored.score.polarity:+.2f}")
    except (ImportError, LivelistError) as error:
        remedy = "" if isinstance(error, LivelistError) else "pip install 'livelist[cpu]'"
        yield Finding("broken", "model", str(error), remedy)


def _providers(wanted: tuple[str, ...]) -> str:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    absent = [name for name in wanted if name not in available]
    if absent:
        raise DeploymentError(
            f"{', '.join(absent)} is not among {', '.join(available)}: pip install 'livelist[gpu]'"
        )
    return ", ".join(available)


def _runner() -> Iterator[Finding]:
    try:
        from pipeline.options import DEFAULT_RUNNER, runner_notice

        yield Finding("ok", "runner", runner_notice(DEFAULT_RUNNER))
    except ImportError as error:
        yield Finding("broken", "runner", str(error), "make install")


def _extras() -> Iterator[Finding]:
    for extra, (purpose, modules) in EXTRAS.items():
        absent = [module for module in modules if not _importable(module)]
        if absent:
            yield Finding("missing", f"[{extra}]", f"for {purpose}", f"pip install 'livelist[{extra}]'")
        else:
            yield Finding("ok", f"[{extra}]", f"for {purpose}")


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _needed_by(runner: str) -> Iterator[Finding]:
    module, _, function = _RUNNERS[runner].partition(":")
    for check in getattr(importlib.import_module(module), function)():
        yield Finding(
            "ok" if check.well else "broken", check.name, check.what, "" if check.well else check.remedy
        )


def _java() -> Finding:
    java = shutil.which("java")
    if not java:
        return Finding(
            "missing",
            "java",
            "for Flink and cross-language sources",
            "apt-get install openjdk-17-jre-headless",
        )
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    return Finding("ok", "java", shown.splitlines()[0] if shown else java)


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "missing": ("not there", "yellow"), "broken": ("BROKEN", "bold red")}
    width = max(len(finding.name) for finding in findings)
    console = output_console()
    for finding in findings:
        mark, style = marks[finding.level]
        what = finding.what + (f" → {finding.remedy}" if finding.remedy else "")
        console.print(
            Text.assemble((f"{mark:<10}", style), f"{finding.name:<{width}}  {what}"), soft_wrap=True
        )
    broken = sum(finding.level == "broken" for finding in findings)
    console.print(f"\n{broken} broken: a run would fail" if broken else "\nready")
