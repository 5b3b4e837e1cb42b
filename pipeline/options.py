"""The same flags as Beam options, and the split of a command line into a job and the runner's options."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from apache_beam.options.pipeline_options import (
    CrossLanguageOptions,
    DirectOptions,
    FlinkRunnerOptions,
    JobServerOptions,
    KafkaStreamsRunnerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
    StandardOptions,
    TestDataflowOptions,
    TestOptions,
    WorkerOptions,
    _BeamArgumentParser,
)

from models.errors import UsageError
from pipeline.cli.parsing import CommandParser, flags_of, refuse_unknown
from pipeline.config import JobConfig
from pipeline.flags.groups import add_job_flags
from pipeline.flags.parsed import job_config

#: One engine that is known, rather than the three that `DirectRunner` chooses among by itself.
DEFAULT_RUNNER: Final = "FnApiRunner"

#: Name without "Runner", in small letters -> full name. The tests' own one of Dataflow is none to submit by.
_RUNNERS: Final = {
    name.lower().removesuffix("runner"): name
    for name in StandardOptions.KNOWN_RUNNER_NAMES
    if name != "TestDataflowRunner"
}
#: Options of other engines and of workers elsewhere.
_IDLE_OPTIONS: Final = (
    CrossLanguageOptions,
    DirectOptions,
    FlinkRunnerOptions,
    JobServerOptions,
    KafkaStreamsRunnerOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
    TestDataflowOptions,
    TestOptions,
    WorkerOptions,
)
#: Of classes that also hold options of file systems and of pickling: what is staged, and what is Dataflow's.
_IDLE_NAMES: Final = frozenset({
    "create_from_snapshot", "dataflow_endpoint", "dataflow_job_file", "dataflow_kms_key",
    "dataflow_service_options", "enable_artifact_caching", "enable_hot_key_logging",
    "enable_streaming_engine", "extra_packages", "files_to_stage", "flexrs_goal",
    "number_of_worker_harness_threads", "prebuild_sdk_container_engine", "region", "requirements_file",
    "sdk_location", "setup_file", "staging_location", "template_location", "transform_name_mapping", "update",
})  # fmt: skip


class RecommenderOptions(PipelineOptions):
    """The job's flags for those who build a pipeline themselves: `job_config(view)` makes the config."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_job_flags(parser)


class Launch(NamedTuple):
    """A command line, understood."""

    config: JobConfig
    beam_options: PipelineOptions  # holds Beam's flags only, so that no key of ours is shown by a runner
    runner: str  # the full name, where it is one of Beam's
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
    runner = named_runner(parsed.runner or DEFAULT_RUNNER)
    options = PipelineOptions([*rest, f"--runner={runner}"])  # the last one counts
    return Launch(job_config(flags, environment), options, runner, runner_notice(runner))


def beam_parser(prog: str) -> CommandParser:
    """Knows every option of Beam's."""
    parser = _EveryOption(prog)
    for options in beam_option_classes():
        options._add_argparse_args(parser)
    return parser


def named_runner(given: str) -> str:
    """The full name of the runner, whatever its case, with or without "Runner" or Beam's own module.

    A name with another module is somebody's own class, and stays. Raises UsageError with the nearest name.
    """
    short = given.rpartition(".")[2] if given.startswith("apache_beam.") else given
    found = _RUNNERS.get(_stem(short))
    if found or "." in given:
        return found or given
    near = difflib.get_close_matches(_stem(given), _RUNNERS, 1, 0.5)
    expected = (
        f"did you mean {_RUNNERS[near[0]]}?" if near else f"expected one of {', '.join(_RUNNERS.values())}"
    )
    raise UsageError(f"--runner: there is no {given!r}; {expected}")


def _stem(runner: str) -> str:
    return runner.lower().removesuffix("runner")


def refuse_idle_options(rest: Sequence[str]) -> None:
    """Raises UsageError for an option of Beam's that an endless run in this process has no use for.

    Some do worse than nothing there: with several workers the engine ends after the first bundle.
    """
    for options in beam_option_classes():
        parser = _EveryOption("livelist run")
        options._add_argparse_args(parser)
        flags = {action.dest: action.option_strings[0] for action in parser._actions}
        for action in parser._actions:
            action.default = argparse.SUPPRESS
        for name in vars(parser.parse_known_args(list(rest))[0]):
            if options in _IDLE_OPTIONS or name in _IDLE_NAMES:
                raise UsageError(
                    f"{flags[name]} is of no use in an endless run in this process, which keeps its states "
                    "here and runs one bundle at a time; leave it out, or run on Flink, which has workers: "
                    "livelist flink up"
                )


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
