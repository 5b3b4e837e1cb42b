"""Take the least important heads or layers out of a trained model, and print what that costs.

The texts are those of the run unless --data gives others; they must have labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from pipeline.cli.parsing import CommandParser
from pipeline.cli.training_flags import (
    add_further_flags,
    add_quality_flag,
    prepare_training,
    read_further_request,
)
from pipeline.cli.training_view import conclude, embedding_line, figures_line, run_watchers
from pipeline.flags.values import count

EXAMPLE: Final = "livelist prune --model runs/first --layers 4 --recover_steps 100 --output runs/pruned"


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """The run, and what to leave of it."""
    parser.add_argument("--model", required=True, metavar="FOLDER", help="a trained run")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of the smaller model's run")
    size = parser.add_argument_group("what to take out").add_argument
    size("--layers", type=int, default=0, metavar="N", help="layers to keep")
    size("--heads", type=float, default=0.0, metavar="SHARE", help="share of all heads to take out")
    size("--recover_steps", type=count, default=0, metavar="N", help="of training afterwards (default: 0)")
    add_further_flags(parser)
    add_quality_flag(parser)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Prune and compare."""
    prepare_training(args)
    from models.training.prune import PruneRequest, prune

    request = PruneRequest(
        read_further_request(args, args.model), args.layers, args.heads, args.recover_steps
    )
    folder = Path(args.output)
    with run_watchers(folder) as watchers:
        result = prune(request, folder, watchers)
    print(f"taken out: {', '.join(result.removed)}")
    print(f"before     {figures_line(result.before)}")
    print(f"after      {figures_line(result.after)}")
    if result.recovered:
        print(f"recovered  {figures_line(result.recovered)}")
    print(f"embedding  {embedding_line(result.embedding.figures())}")
    remedy = "Take out less, or recover for longer with --recover_steps"
    return conclude(args, result.embedding, f"{args.output}: a run", remedy)
