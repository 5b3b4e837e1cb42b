"""Train a smaller model from a trained one: fewer layers, a narrower stream, or both.

The texts are those of the teacher's run unless --data gives others; they must have labels.
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

EXAMPLE: Final = "livelist distil --teacher runs/first --layers 3 --output runs/small"


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """The teacher, the student's size, and how to train."""
    parser.add_argument("--teacher", required=True, metavar="FOLDER", help="a trained run")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of the student's run")
    size = parser.add_argument_group("student").add_argument
    size("--layers", type=int, default=0, metavar="N", help="of the student (default: the teacher's)")
    size("--hidden", type=int, default=0, metavar="N", help="width of the student (default: the teacher's)")
    size("--temperature", type=float, default=2.0, help="of the teacher's outputs (default: 2.0)")
    size("--teacher_weight", type=float, default=1.0, help="of the teacher's outputs (default: 1.0)")
    size("--states_weight", type=float, default=1.0, help="of the teacher's hidden states (default: 1.0)")
    add_further_flags(parser)
    add_quality_flag(parser)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Distil and compare."""
    prepare_training(args)
    from models.training.distil import DistilRequest, distil

    request = DistilRequest(
        read_further_request(args, args.teacher), args.layers, args.hidden, args.temperature,
        args.teacher_weight, args.states_weight,
    )  # fmt: skip
    folder = Path(args.output)
    with run_watchers(folder) as watchers:
        result = distil(request, folder, watchers)
    sizes = result.parameters
    print(f"teacher  {sizes['teacher']:,} parameters; {figures_line(result.teacher)}")
    print(f"student  {sizes['student']:,} parameters; {figures_line(result.student)}")
    print(f"embedding  {embedding_line(result.embedding.figures())}")
    return conclude(args, result.embedding, f"{args.output}: a run")
