"""Fine-tune a BERT on feedback: sentiment, intensity, topics and intent in one model.

The tasks come from the columns text, sentiment, rating, intensity, topics and intent; a text may lack any of
them. A run that was killed goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from pipeline.cli.parsing import CommandParser
from pipeline.cli.training_flags import (
    add_data_flags,
    add_label_flags,
    add_quality_flag,
    add_settings_flags,
    prepare_training,
    read_training_request,
)
from pipeline.cli.training_view import conclude, print_metrics, run_watchers
from pipeline.flags.values import count

EXAMPLE: Final = (
    "livelist train --base bert-base-uncased --data reviews.jsonl --map text=body --output runs/first"
)


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """The base, the data, and how to train."""
    parser.add_argument("--base", required=True, metavar="MODEL",
                        help="a folder, an earlier run, or a name on the Hugging Face hub")  # fmt: skip
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of this run")
    add_data_flags(parser, required=True)
    add_label_flags(parser)
    add_settings_flags(parser)
    add_quality_flag(parser)
    more = parser.add_argument_group("more").add_argument
    more("--features", nargs="+", default=[], metavar="FEATURE",
         help="what the heads read: cls, mean, or of another layer as in mean:-2")  # fmt: skip
    more("--folds", type=int, default=0, metavar="K", help="cross-validate with K models before the run")
    more("--synonyms", default="", metavar="FILE", help="lines of words that may stand for each other")
    more("--unlabelled", nargs="+", default=[], metavar="PATH", help="texts without labels")
    more("--pseudo_gate", type=float, default=0.0, metavar="CONFIDENCE",
         help="train on with the model's labels of unlabelled texts that are surer")  # fmt: skip
    more("--ask", type=count, default=0, metavar="N",
         help="write the N unlabelled texts most worth labelling to to_label.jsonl")  # fmt: skip
    more("--wandb", default="", metavar="PROJECT", help="report to Weights & Biases too")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Train, or go on training."""
    prepare_training(args)
    from models.training.curves import WandbWatcher
    from models.training.job import train

    folder = Path(args.output)
    request = replace(
        read_training_request(args, args.base),
        features=tuple(args.features),
        folds=args.folds,
        synonyms=args.synonyms,
        unlabelled=tuple(args.unlabelled),
        pseudo_gate=args.pseudo_gate,
        ask=args.ask,
    )
    with ExitStack() as stack:
        watchers = stack.enter_context(run_watchers(folder))
        if args.wandb:
            sent = WandbWatcher(args.wandb, {"base": args.base, "data": args.data}, folder)
            stack.callback(sent.close)
            watchers = [*watchers, sent]
        trained = train(request, folder, watchers)
    print_metrics(trained.metrics)
    return conclude(args, trained.embedding, f"{folder}: model, metrics.json, curves.html")
