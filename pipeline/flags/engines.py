"""Which flags mean something on which engine, so that none is taken and then does nothing."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from models.errors import UsageError
from pipeline.cli.parsing import CommandParser
from pipeline.config import JobConfig
from pipeline.flags.groups import GROUPS, add_flags


class Engine(Enum):
    """What runs a job; the value says so in a message."""

    BOUNDED = "in a bounded run"
    LOCAL = "in an endless run in this process"
    PRISM = "in an endless run on Prism"
    FLINK = "in an endless run on Flink"
    DATAFLOW_BOUNDED = "in a bounded run on Dataflow"
    DATAFLOW = "in an endless run on Dataflow"


class Meaning(NamedTuple):
    """Of a flag that not every engine has a use for."""

    engines: frozenset[Engine]
    what: str  # what it is for, in words


_BOUNDED: Final = frozenset({Engine.BOUNDED, Engine.DATAFLOW_BOUNDED})
_LOCAL: Final = frozenset({Engine.LOCAL})
#: Endless, on machines that share a disk, while the command or a steward of ours goes on.
_TENDED: Final = frozenset({Engine.LOCAL, Engine.PRISM, Engine.FLINK})
_IN_ONE_ORDER: Final = "bounded runs and endless ones in this process"
#: What --streaming makes of a bounded run.
_ENDLESS: Final = {Engine.BOUNDED: Engine.LOCAL, Engine.DATAFLOW_BOUNDED: Engine.DATAFLOW}
_IN_PROCESS: Final = "an endless run in this process"
_WITH_METRICS: Final = "an endless run in this process or on Flink"

#: Flag without its dashes -> where it means something. A flag that is not here means something everywhere.
MEANINGS: Final[dict[str, Meaning]] = {
    "items": Meaning(
        frozenset(Engine) - {Engine.DATAFLOW},
        "a run that learns the item index, which here the bounded run into the same --output does",
    ),
    "if_exists": Meaning(frozenset(Engine) - {Engine.DATAFLOW}, "a run that writes tables into --output"),
    "emit_history": Meaning(_BOUNDED, "bounded runs; an endless one keeps every list that it makes"),
    "history_window_seconds": Meaning(_BOUNDED, "bounded runs with --emit_history"),
    "now": Meaning(_BOUNDED, "bounded runs; an endless one ranks as of the newest feedback"),
    "trend_window_seconds": Meaning(_BOUNDED | _TENDED, "a job that makes trends"),
    "allowed_lateness_seconds": Meaning(
        _BOUNDED | _LOCAL, f"{_IN_ONE_ORDER}, which read one log in one order"
    ),
    "run_for_seconds": Meaning(_TENDED, "an endless run that this command waits for"),
    "metrics_port": Meaning(_LOCAL | {Engine.FLINK}, _WITH_METRICS),
    "metrics_host": Meaning(_LOCAL | {Engine.FLINK}, _WITH_METRICS),
    "log_format": Meaning(_LOCAL, _IN_PROCESS),
    "snapshot_every_seconds": Meaning(_TENDED | {Engine.DATAFLOW}, "endless runs"),
    "reindex_every_seconds": Meaning(_TENDED, "an endless run that learns the item index by itself"),
    "state_dir": Meaning(_LOCAL, f"{_IN_PROCESS}, whose states are on this disk"),
    "rerank_at_drain": Meaning(_LOCAL, _IN_PROCESS),
    "accelerator": Meaning(frozenset({Engine.DATAFLOW_BOUNDED, Engine.DATAFLOW}), "Dataflow's workers"),
}

#: Flag -> the one without which it does nothing.
_NEEDED: Final = {
    "canary_share": "canary_model",
    "history_window_seconds": "emit_history",
    "metrics_host": "metrics_port",
}


def engine_of(runner: str, streaming: bool) -> Engine:
    """The engine of a job on one of Beam's runners, by its full name."""
    if not streaming:
        return Engine.DATAFLOW_BOUNDED if runner == "DataflowRunner" else Engine.BOUNDED
    endless = {
        "DataflowRunner": Engine.DATAFLOW,
        "FlinkRunner": Engine.FLINK,
        "PrismRunner": Engine.PRISM,
    }
    return endless.get(runner, Engine.LOCAL)


def refuse_meaningless(flags: Iterable[str], engine: Engine) -> None:
    """Raises UsageError for the first of `flags`, without their dashes, that would do nothing there."""
    for flag in flags:
        meaning = MEANINGS.get(flag)
        if meaning is None or engine in meaning.engines:
            continue
        elsewhere = _ENDLESS.get(engine) in meaning.engines
        remedy = "pass --streaming, or leave it out" if elsewhere else "leave it out"
        raise UsageError(f"--{flag} does nothing {engine.value}: it is for {meaning.what}; {remedy}")


def refuse_alone(flags: Sequence[str]) -> None:
    """Raises UsageError for the first of `flags` that does nothing without another."""
    for flag in flags:
        if (needed := _NEEDED.get(flag)) and needed not in flags:
            raise UsageError(f"--{flag} goes with --{needed}; add that, or leave it out")


def given_flags(arguments: Sequence[str]) -> tuple[str, ...]:
    """The flags of a run that a command line has, without their dashes, defaults that are written out too."""
    parser = CommandParser("livelist run")
    add_flags(parser, *GROUPS)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return tuple(vars(parser.parse_known_args(list(arguments))[0]))


def changed_fields(config: JobConfig) -> tuple[str, ...]:
    """The fields of a config that are not as they are by default: flags that were given, by their names."""
    plain = JobConfig(inputs=config.inputs, output=config.output)
    names = (field.name for field in dataclasses.fields(config))
    return tuple(name for name in names if getattr(config, name) != getattr(plain, name))
