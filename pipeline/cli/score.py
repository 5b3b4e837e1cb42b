"""Print what the encoder reads in texts: one JSON object a line, in the order of the texts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Final

from models.errors import UsageError
from pipeline.cli.console import progress, quiet_libraries
from pipeline.cli.parsing import CommandParser
from pipeline.flags.groups import add_scorer_flags
from pipeline.flags.values import provider_names
from pipeline.progress import PROGRESS, SCORING

EXAMPLE: Final = 'livelist score "The zipper broke after a day."'

_BATCH: Final = 256  # lines of stdin that are scored together


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """Texts and the model."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="default: one a line from standard input")
    add_scorer_flags(parser)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    quiet_libraries()
    if not args.texts and sys.stdin.isatty():
        raise UsageError("no text: give one as an argument, or one a line on standard input")
    from models.encoder import ScoringFailure, TextScorer, score_as_json
    from models.encoder.topics import read_topics
    from models.text import clean_and_redact

    topics = read_topics(args.topics) if args.topics else None
    folder = {"artefact_path": args.model} if args.model else {}
    scorer = TextScorer(
        providers=provider_names(args.providers), threads=args.threads, topics=topics, **folder
    )
    failures = 0
    with progress("scoring", shown=not sys.stdout.isatty()):
        PROGRESS.enter(SCORING, 0 if args.texts else _bytes_of_stdin())
        PROGRESS.texts = lambda: scorer.texts
        for texts in _batches(args.texts):
            # As a job tidies them: a text with nothing left is an empty one.
            for scored in scorer.score([clean_and_redact(text) or "" for text in texts]):
                failures += isinstance(scored, ScoringFailure)
                print(json.dumps(score_as_json(scored), ensure_ascii=False))
    return 1 if failures else 0


def _bytes_of_stdin() -> int:
    """How much there is to read, where standard input is a file; else 0."""
    try:
        return os.fstat(sys.stdin.fileno()).st_size
    except (OSError, ValueError):  # no descriptor of the system
        return 0


def _batches(texts: list[str]) -> Iterator[list[str]]:
    if texts:
        yield texts
        return
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    while batch := list(islice(sys.stdin, _BATCH)):
        yield [line.rstrip("\r\n") for line in batch]
        PROGRESS.advance(sum(len(line.encode()) for line in batch))
