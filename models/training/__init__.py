"""Fine-tuning of a BERT encoder with several heads at once: the torch side, free of any command line.

A run from Python:

    bert = load_base("bert-base-uncased")               # or a folder; network.py
    extend_vocabulary(bert, {"好": row, ...})            # optional: new rows, vocabulary.py
    tasks = (Task("sentiment", "classes", ("negative", "neutral", "positive")),
             Task("intensity", "number"), Task("topics", "labels", (...)), Task("intent", "classes", (...)))
    model = FeedbackModel(bert.encoder, tasks)          # heads on [CLS]; the mean pool is the embedding
    train = LabelledTexts(texts, {"sentiment": rows, ...}).encode(bert.tokenizer(max_length=64))
    train = train.with_embeddings(embed_texts(load_base(...), texts))   # what the embedding must stay near
    trainer = Trainer(model, train, validation, Settings(...), folder)
    trainer.run()                                       # goes on where a killed run of this folder stopped
    save_checkpoint(folder / "checkpoint", model, bert)

Targets are float rows with NaN for what is unknown: one column a class (probabilities, so hard labels,
smoothed ones and a teacher's are one thing), one column a topic (0 or 1), or one number in [0, 1].
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from models.errors import DeploymentError

#: What the `train` extra brings, that neither a run nor an export can do without.
PACKAGES: Final = ("torch", "transformers", "safetensors", "onnx")
#: What else a run needs, for its curves.
CURVES: Final = ("matplotlib", "tensorboard")


def require_packages(*more: str) -> None:
    """Raises DeploymentError when one of `PACKAGES`, or of these, is not installed; imports nothing."""
    missing = [name for name in (*PACKAGES, *more) if find_spec(name) is None]
    if missing:
        raise DeploymentError(
            f"training needs {', '.join(missing)}: pip install 'livelist[train]', or make install-all"
        )
