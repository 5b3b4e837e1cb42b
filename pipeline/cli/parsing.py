"""Argument parsing that answers in one line and knows the nearest name."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import NoReturn

from models.errors import UsageError

_UNRECOGNIZED = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36, width=100)


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are `UsageError`s, with the nearest flag for a misspelt one."""

    def __init__(self, prog: str, description: str | None = None, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        unrecognized = _UNRECOGNIZED.match(message)
        if unrecognized:
            refuse_unknown(unrecognized[1].split(" "), flags_of(self), self.prog)
        raise UsageError(f"{message.removeprefix('argument ')} (see `{self.prog} --help`)")


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Every flag that a parser knows."""
    return [flag for action in parser._actions for flag in action.option_strings]


def refuse_unknown(arguments: Iterable[str], known: Iterable[str], prog: str) -> NoReturn:
    """Raise `UsageError` about the first unknown argument, with the nearest known flag."""
    argument = next(iter(arguments))
    if not argument.startswith("-"):
        raise UsageError(f"unexpected argument {argument!r} (see `{prog} --help`)")
    flag = argument.split("=", 1)[0]
    near = nearest(flag, known)
    expected = f"; did you mean {near}?" if near else ""
    raise UsageError(f"unknown flag {flag}{expected} (see `{prog} --help`)")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that a misspelt one probably means, if any is near."""
    spelling = {known.replace("-", "_").lstrip("_"): known for known in names}
    found = difflib.get_close_matches(name.replace("-", "_").lstrip("_"), spelling, n=1, cutoff=0.6)
    return spelling[found[0]] if found else None


def one_line(error: BaseException, length: int = 500) -> str:
    """An error's message as one readable line."""
    # A runner names the step as well; --debug shows it.
    text = re.sub(r" \[while running '[^']*'\]", "", " ".join(str(error).split())).strip('"') or "no message"
    return text if len(text) <= length else f"{text[: length - 1]}…"
