"""Make of a trained run, or of any BERT checkpoint, the one-file artefact that jobs use.

What comes out is compared with torch on held-out texts, and nothing appears unless it agrees. int8 is for
CPUs, fp16 for GPUs, none keeps float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from models.training import require_packages
from pipeline.cli.console import progress, quiet_libraries
from pipeline.cli.parsing import CommandParser
from pipeline.cli.training_flags import add_data_flags, read_columns

EXAMPLE: Final = "livelist export --model runs/first --quantize int8 --output artefacts/first"


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """The model, the artefact, and how to make it."""
    parser.add_argument("--model", required=True, metavar="MODEL",
                        help="a run's folder, or any encoder: a folder, or a name on the hub")  # fmt: skip
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of the artefact")
    parser.add_argument(
        "--quantize", choices=("none", "fp16", "int8"), default="int8", help="(default: int8)"
    )
    parser.add_argument("--name", default="", help="of the model (default: the run's)")
    parser.add_argument("--languages", nargs="+", default=[], metavar="TAG",
                        help="the heads were taught, as in en zh (default: the data's)")  # fmt: skip
    parser.add_argument("--max_length", type=int, default=256, metavar="TOKENS",
                        help="of a scored text; longer ones lose their middle (default: 256)")  # fmt: skip
    add_data_flags(parser, required=False)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Export and say what was lost."""
    require_packages()
    quiet_libraries()
    with progress("exporting"):
        from models.encoder.artefact import read_manifest
        from models.export.job import ExportRequest, export

        artefact = export(
            ExportRequest(
                model=args.model, output=Path(args.output), quantize=args.quantize, data=tuple(args.data),
                columns=read_columns(args), name=args.name, languages=tuple(args.languages),
                max_length=args.max_length,
            )
        )  # fmt: skip
    manifest = read_manifest(artefact.path)
    metrics = manifest.get("metrics")
    print(
        f"{artefact.path}: {artefact.name} {artefact.version}, {artefact.size / 1e6:.1f} MB, {args.quantize}"
    )
    for name, figures in metrics.items() if isinstance(metrics, dict) else ():
        print(f"{name}: {figures}")
    unserved = manifest.get("not_served")
    if isinstance(unserved, list) and unserved:
        print(f"not served: {', '.join(map(str, unserved))}; no output of an artefact tells it")
    if not manifest.get("batch_invariant"):
        print(f"a text's result depends on the texts beside it: {manifest.get('quantization')}")
    return 0
