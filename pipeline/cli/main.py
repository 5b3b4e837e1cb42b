"""`livelist`: finds the command, runs it, and turns every failure into one readable line.

Nothing heavy is imported here: Beam, ONNX Runtime and Arrow are imported by the command
that needs them, when it runs.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from models.errors import DeploymentError, LivelistError, OutputError, UsageError
from pipeline.cli.parsing import CommandParser, nearest, one_line

#: Command -> what it does, in the order of `livelist --help`; each is `pipeline/cli/<command>.py`, - as _.
COMMANDS: Final[dict[str, str]] = {
    "demo": "show on the sample what words do to three users' lists",
    "run": "feedback in; refreshed, explained top-K tables out",
    "recommend": "one user's current list with its reasons",
    "ui": "a page in the browser: lists and why, their history, the run at a glance",
    "score": "what the encoder reads in texts, one JSON object a line",
    "evaluate": "how well the lists predict a history",
    "bench": "how fresh the lists of an endless job are, and at which rates",
    "flink": "a Flink cluster on this machine, and endless jobs on it",
    "live-demo": "an endless job with a simulated population, for a minute",
    "train": "fine-tune a BERT on feedback",
    "distil": "train a smaller model from a trained one",
    "prune": "take heads or layers out of a trained model, and say what it costs",
    "export": "make of a trained run, or of any BERT, the artefact that jobs use",
    "model": "show, compare, verify or publish an exported model",
    "validate": "what a run would reject in an input, and why",
    "doctor": "versions, model and runner; what is missing and how to get it",
    "schema": "the JSON Schemas of input and the columns of the tables",
}

INTERRUPTED: Final = 130
_INTERRUPTED_RUN: Final = (
    "a bounded run publishes no tables before its end, an endless one goes on from its last checkpoint"
)
_NO_PRISM: Final = (
    "PrismRunner: its program could not be downloaded; give its path or URL as --prism_location, "
    "or leave --runner out (--debug shows more)"
)
EXIT_CODES: Final = """exit codes:
  0    done
  1    something else went wrong, or `validate` found rejects, or `doctor` something broken
  2    a wrong flag or argument
  3    an input that cannot be opened
  4    an output that cannot be written
  5    a missing model, execution provider or package
  130  interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        return _dispatch([argument for argument in arguments if argument != "--debug"])
    except BrokenPipeError:
        _leave_quietly()
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            raise
        message, exit_code = explain_failure(error, _value_of(arguments, "--output"))
        print(_failure_line(message, arguments), file=sys.stderr)
        return exit_code


def explain_failure(error: BaseException, output: str | None = None) -> tuple[str, int]:
    """One line about an error, and the exit code; a runner wraps what a step raised, so causes count.

    `output` is the folder that was written to.
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(each, KeyboardInterrupt) for each in chain) or "KeyboardInterrupt [" in str(error):
        return f"interrupted; {_INTERRUPTED_RUN}", INTERRUPTED
    for each in chain:
        if isinstance(each, LivelistError):
            return one_line(each), each.exit_code
    if any(_is_full_disk(each) for each in chain):
        return (
            f"the disk is full{_where(chain, output)}; free some space and run again",
            OutputError.exit_code,
        )
    if any("prism" in str(each).lower() and "fetch" in str(each) for each in chain):
        return _NO_PRISM, DeploymentError.exit_code
    return f"{type(error).__name__}: {one_line(error)} (--debug shows where)", 1


def _failure_line(message: str, arguments: Sequence[str]) -> str:
    """For people, or as JSON where the log is."""
    if _value_of(arguments, "--log_format") != "json":
        return f"livelist: {message}"
    from pipeline.live.json_logs import failure_line

    return failure_line(message)


def _value_of(arguments: Sequence[str], wanted: str) -> str | None:
    """The value of a flag, wherever the command failed."""
    for place, argument in enumerate(arguments):
        flag, given, value = argument.partition("=")
        if flag == wanted:
            return value if given else next(iter(arguments[place + 1 :]), None)
    return None


def _where(chain: Sequence[BaseException], output: str | None) -> str:
    """The file that could not be written, where the system names one, or else the folder."""
    named = (each.filename for each in chain if isinstance(each, OSError) and each.filename)
    path = next(named, output)
    return f": {path} cannot be written" if path else ""


def _is_full_disk(error: BaseException) -> bool:
    """NumPy gives no errno, and a runner keeps neither type nor errno."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or re.search(r"No space left on device|\d+ requested and \d+ written", str(error)) is not None


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if arguments else UsageError.exit_code
    name = arguments[0]
    if name == "--version":
        from importlib.metadata import version

        print(f"livelist {version('livelist')}")
        return 0
    if name not in COMMANDS:
        expected = f"; did you mean `livelist {near}`?" if (near := nearest(name, COMMANDS)) else ""
        raise UsageError(f"there is no command {name!r}{expected} (livelist --help lists them)")
    if name == "live-demo" or {"--streaming", "--follow"} & {*arguments}:
        # Read when Arrow is imported: its own allocators keep what is free, bundle after bundle.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    command = importlib.import_module(f"pipeline.cli.{name.replace('-', '_')}")
    parser = CommandParser(f"livelist {name}", command.__doc__, f"example:\n  {command.EXAMPLE}")
    exit_code: int = command.run(command.parse(parser, arguments[1:]))
    sys.stdout.flush()
    return exit_code


def help_text() -> str:
    """What `livelist --help` prints."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return f"""usage: livelist COMMAND [--debug] [...]

From raw user feedback to refreshed, explained top-K lists in seconds.

commands:
{commands}

  livelist COMMAND --help   flags and an example
  --debug                   show a traceback when something fails
  --version                 print the version

example:
  livelist demo --output out/demo

{EXIT_CODES}"""


def _leave_quietly() -> NoReturn:
    """The reader of our output has gone (`| head`): nothing to say, and nothing left to flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


if __name__ == "__main__":
    sys.exit(main())
