"""The flags that the commands around training share, and how they are read."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from models.errors import UsageError
from models.training import CURVES, require_packages
from pipeline.cli.console import quiet_libraries
from pipeline.cli.parsing import CommandParser

if TYPE_CHECKING:
    from models.training.request import TrainingRequest
    from models.training.settings import Settings

#: Help of the flags that are fields of `Settings`.
SETTINGS: Final[dict[str, str]] = {
    "mode": "what trains: everything, LoRA matrices in the attention, or the heads alone",
    "epochs": "passes over the data",
    "max_steps": "optimizer steps; 0: by --epochs",
    "batch_size": "texts a batch",
    "accumulate": "batches an optimizer step",
    "rate": "learning rate of the encoder; 3e-4 with --mode lora unless given",
    "head_rate": "learning rate of the heads",
    "weight_decay": "of AdamW, on matrices",
    "warm_up": "share of the steps in which the rate rises",
    "schedule": "how the rate falls after that",
    "clip": "largest norm of the gradient; 0: none",
    "dropout": "before the heads",
    "label_smoothing": "share of a class's probability given to all",
    "class_weights": "weight of rare classes: none, root of the inverse frequency, or inverse frequency",
    "seed": "of everything that is drawn",
    "max_length": "tokens of a training text; longer ones lose their middle",
    "evaluate_every": "steps between evaluations; 0: once an epoch",
    "patience": "evaluations without a better score before it stops; 0: never",
    "save_every": "steps between the states that a killed run resumes from",
    "hold_embedding": "weight of keeping each text's embedding where it was; 0 lets it go",
    "contrast_embedding": "weight of telling a text's embedding from its batch's",
    "edits": "share of tokens deleted, swapped or masked in training texts",
    "adversarial": "length of the adversarial step on the word vectors (FGM); 0: none",
    "lora_rank": "rank of the LoRA matrices",
}
LORA_RATE: Final = 3e-4
#: Flags that say how data is read: of no use to a command that reads a run's own data again.
READING: Final = (
    "map", "tasks", "labels", "rating_scale", "sentiment_classes", "validation", "validation_share",
)  # fmt: skip


def add_data_flags(parser: CommandParser, required: bool) -> None:
    """Where the texts are and how their columns are called."""
    data = parser.add_argument_group("data").add_argument
    data("--data", nargs="+", metavar="PATH", required=required, default=[],
         help="JSON Lines, CSV or TSV, plain, .gz or .zip; files or folders")  # fmt: skip
    data("--map", nargs="+", metavar="FIELD=COLUMN", default=[],
         help="columns called otherwise, as in text=body rating=stars")  # fmt: skip


def add_label_flags(parser: CommandParser) -> None:
    """What is learnt from the columns."""
    labels = parser.add_argument_group("labels").add_argument
    labels("--tasks", nargs="+", metavar="TASK", default=[],
           help="of sentiment, intensity, rating, topics, intent (default: all there are)")  # fmt: skip
    labels("--labels", metavar="FILE", help='JSON such as {"sentiment": ["bad", "good"]}: names, worst first')
    labels("--rating_scale", metavar="LOW:HIGH", help="of the ratings (default: 1:5)")
    labels("--sentiment_classes", type=int, metavar="N", help="made from ratings (default: 3)")
    labels("--validation", nargs="+", metavar="PATH", default=[], help="files to validate on")
    labels("--validation_share", type=float, metavar="SHARE",
           help="of the data, without --validation and without a column split (default: 0.1)")  # fmt: skip


def add_settings_flags(parser: CommandParser, inherited: tuple[str, ...] = ()) -> None:
    """Every field of `Settings` that people choose; those `inherited` are an earlier run's by default."""
    from models.training.settings import ClassWeights, Mode, Schedule, Settings

    choices = {
        "mode": get_args(Mode),
        "schedule": get_args(Schedule),
        "class_weights": get_args(ClassWeights),
    }
    add = parser.add_argument_group("training").add_argument
    for field in dataclasses.fields(Settings):
        if field.name in SETTINGS:
            usual = "the run's" if field.name in inherited else field.default
            add(
                f"--{field.name}", type=type(field.default), choices=choices.get(field.name),
                metavar=None if field.name in choices else type(field.default).__name__.upper(),
                default=None, help=f"{SETTINGS[field.name]} (default: {usual})",
            )  # fmt: skip
    add("--no_bf16", action="store_true", help="float32 products even where bfloat16 is in the hardware")
    add("--threads", type=int, default=0, metavar="N", help="of the CPU (default: torch's own choice)")


def add_quality_flag(parser: CommandParser) -> None:
    """Whether an embedding that got worse is taken."""
    parser.add_argument("--accept_embedding", action="store_true",
                        help="take a worse embedding; without it the exit code is 1")  # fmt: skip


def read_settings(args: argparse.Namespace) -> Settings:
    """The settings of the flags. Raises UsageError for a value out of range."""
    from models.training.settings import Settings

    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if given.get("mode") == "lora":
        given.setdefault("rate", LORA_RATE)
    try:
        return Settings(**given, bf16=not args.no_bf16)
    except ValueError as error:
        raise UsageError(str(error)) from None


def read_columns(args: argparse.Namespace) -> dict[str, str]:
    """FIELD=COLUMN pairs of --map."""
    pairs = [text.split("=", 1) for text in args.map]
    for pair, text in zip(pairs, args.map, strict=True):
        if len(pair) != 2 or not all(pair):
            raise UsageError(f"--map: expected FIELD=COLUMN such as text=body, got {text!r}")
    return {pair[0]: pair[1] for pair in pairs}


def read_training_request(args: argparse.Namespace, base: str) -> TrainingRequest:
    """The request of the flags of `add_data_flags`, `add_label_flags` and `add_settings_flags`."""
    from models.training.labels import LabelRules, read_label_file
    from models.training.request import TrainingRequest
    from pipeline.flags.values import rating_scale

    rules = LabelRules(
        rating_scale=rating_scale("1:5" if args.rating_scale is None else args.rating_scale),
        sentiment_classes=3 if args.sentiment_classes is None else args.sentiment_classes,
        tasks=tuple(args.tasks),
        labels=read_label_file(Path(args.labels)) if args.labels else {},
    )
    return TrainingRequest(
        base=base,
        data=tuple(args.data),
        settings=read_settings(args),
        rules=rules,
        columns=read_columns(args),
        validation=tuple(args.validation),
        validation_share=0.1 if args.validation_share is None else args.validation_share,
    )


def read_further_request(args: argparse.Namespace, run: str) -> TrainingRequest:
    """As `read_training_request` from an earlier run, on the run's own data unless --data is given.

    Its texts are as long as the run's unless --max_length is given. Raises UsageError for flags about
    data without --data.
    """
    unused = [f"--{name}" for name in READING if getattr(args, name) not in (None, [])]
    if unused and not args.data:
        raise UsageError(
            f"{', '.join(unused)}: without --data the texts and labels are those of {run}, read as they were "
            "for it; give --data as well, which may name the same files"
        )
    from models.training.request import read_request
    from models.training.run_folder import CONFIG_NAME

    request = read_training_request(args, run)
    if args.data and not (Path(run) / CONFIG_NAME).is_file():  # a checkpoint alone
        return request
    earlier, settings = read_request(Path(run)), request.settings
    if args.max_length is None:
        settings = dataclasses.replace(settings, max_length=earlier.settings.max_length)
    if args.data:
        return dataclasses.replace(request, settings=settings)
    return dataclasses.replace(
        earlier, base=run, settings=settings, folds=0, unlabelled=(), pseudo_gate=0.0, ask=0
    )


def add_further_flags(parser: CommandParser) -> None:
    """The data, labels and settings of a command that goes on from a run."""
    add_data_flags(parser, required=False)
    add_label_flags(parser)
    add_settings_flags(parser, inherited=("max_length",))


def prepare_training(args: argparse.Namespace) -> None:
    """Finds a missing package before anything is read; gives torch the threads of --threads."""
    require_packages(*CURVES, *(["peft"] if args.mode == "lora" else []))
    quiet_libraries()
    import torch

    if args.threads < 0:
        raise UsageError(f"--threads must be at least 1, or 0 for torch's own choice, got {args.threads}")
    if args.threads:
        torch.set_num_threads(args.threads)
