"""The launcher of a flex template: its parameters, one value a name, become a `livelist run`.

A parameter is a flag of `livelist run` without the dashes. Flags that may be repeated take several values
with a space between; switches take true or false; an empty value is none. A source that is pulled makes
the job endless.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from models.errors import UsageError
from pipeline.cli.main import main
from pipeline.cli.parsing import CommandParser, flags_of
from pipeline.connectors.uris import is_connector
from pipeline.flags.groups import GROUPS, add_flags

_PROG: Final = "livelist run"
_SWITCH: Final = {"true": True, "false": False}


def command_line(parameters: Sequence[str]) -> list[str]:
    """The arguments of `livelist run` for those that the template's launcher passes on. Raises UsageError.

    The launcher adds options of its own, which differ between its releases: one that nobody here knows is
    left out, with a word on standard error. Parameters are checked by the template before it starts.
    """
    ours = run_parser()
    arguments = [given for parameter in parameters for given in _arguments(parameter, ours)]
    if any(is_connector(_value(given)) for given in arguments if given.startswith("--input=")):
        arguments.append("--streaming")
    return list(_known(arguments, ours))


def run_parser() -> CommandParser:
    """Knows the flags of `livelist run`."""
    parser = CommandParser(_PROG)
    add_flags(parser, *GROUPS)
    return parser


def _arguments(parameter: str, ours: CommandParser) -> Iterator[str]:
    flag, equals, value = parameter.partition("=")
    action = ours._option_string_actions.get(flag)
    if action is None or not equals:
        yield parameter
    elif isinstance(action, argparse._StoreTrueAction):
        if value and value.lower() not in _SWITCH:
            raise UsageError(f"{flag}: expected true or false, got {value!r}")
        if _SWITCH.get(value.lower()):
            yield flag
    elif isinstance(action, argparse._AppendAction):
        yield from (f"{flag}={part}" for part in value.split())
    elif value:
        yield parameter


def _known(arguments: Iterable[str], ours: CommandParser) -> Iterator[str]:
    from pipeline.options import beam_parser

    flags = {*flags_of(ours), *flags_of(beam_parser(_PROG))}
    for argument in arguments:
        if argument.startswith("--") and argument.partition("=")[0] not in flags:
            print(f"livelist: {argument.partition('=')[0]} is not known here and left out", file=sys.stderr)
        else:
            yield argument


def _value(argument: str) -> str:
    return argument.partition("=")[2]


def launch(parameters: Sequence[str]) -> int:
    """Runs it; returns the exit code."""
    try:
        arguments = command_line(parameters)
    except UsageError as error:
        print(f"livelist: {error}", file=sys.stderr)
        return error.exit_code
    return main(["run", *arguments])
