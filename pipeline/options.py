"""The same flags as Beam options, and the split of a command line into a job and the runner's options."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)

from models.errors import UsageError
from pipeline.cli.parsing import CommandParser, flags_of, refuse_unknown
from pipeline.config import JobConfig
from pipeline.flags.groups import add_job_flags
from pipeline.flags.parsed import job_config

#: One engine that is known, rather than the three that `DirectRunner` chooses among by itself.
DEFAULT_RUNNER: Final = "FnApiRunner"


class RecommenderOptions(PipelineOptions):
    """The job's flags for those who build a pipeline themselves: `job_config(view)` makes the config."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_job_flags(parser)


class Launch(NamedTuple):
    """A command line, understood."""

    config: JobConfig
    beam_options: PipelineOptions  # holds Beam's flags only, so that no key of ours is shown by a runner
    runner: str
    notice: str  # what to say about the runner


class _EveryOption(CommandParser, _BeamArgumentParser):
    """Parses as Beam does, and fails as our commands do."""


def parse_launch(
    flags: argparse.Namespace, rest: Sequence[str], prog: str, environment: Mapping[str, str]
) -> Launch:
    """The job that `flags` describe, on the runner that `rest` describes. Raises UsageError."""
    parser = beam_parser(prog)
    parsed, unknown = parser.parse_known_args(list(rest))
    if unknown:
        ours = argparse.ArgumentParser(add_help=False)
        add_job_flags(ours)
        refuse_unknown(unknown, [*flags_of(ours), *flags_of(parser)], prog)
    runner = parsed.runner or DEFAULT_RUNNER
    check_runner(runner)
    given = [*rest] if parsed.runner else [*rest, f"--runner={runner}"]
    return Launch(job_config(flags, environment), PipelineOptions(given), runner, runner_notice(runner))


def beam_parser(prog: str) -> CommandParser:
    """Knows every option of Beam's."""
    parser = _EveryOption(prog)
    for options in beam_option_classes():
        options._add_argparse_args(parser)
    return parser


def check_runner(runner: str) -> None:
    """Refuse a name that Beam does not know; a dotted one is somebody's own class. Raises UsageError."""
    known = StandardOptions.KNOWN_RUNNER_NAMES
    lower = {name.lower() for name in known}
    if "." in runner or {runner.lower(), f"{runner.lower()}runner"} & lower:
        return
    near = difflib.get_close_matches(runner, known, 3, 0.4)
    expected = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
    raise UsageError(f"--runner: Beam knows no {runner!r}; {expected}")


def beam_option_classes() -> Iterator[type[PipelineOptions]]:
    """Beam's own option classes, each once."""
    seen: dict[str, type[PipelineOptions]] = {}
    for options in PipelineOptions.__subclasses__():
        if options.__module__.startswith("apache_beam."):
            seen.setdefault(options.__qualname__, options)
    return iter(seen.values())


def runner_notice(runner: str) -> str:
    """Which engine runs, said openly."""
    if runner == DEFAULT_RUNNER:
        return "FnApiRunner, in this process (the default; --runner chooses another)"
    if runner == "DirectRunner":
        return "DirectRunner: Beam itself chooses Prism, FnApiRunner or the bundle-based runner"
    return runner
