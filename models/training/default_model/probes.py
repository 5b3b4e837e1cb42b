"""Intents read off the embedding: logistic regression on the shipped features, the encoder as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, SGDClassifier

from models.training.default_model.baselines import vectorizer
from models.training.default_model.corpora import Example
from models.training.tasks import Floats

OUTSIDE = "oos"
INVERSE_RIDGE = 30.0
#: The share of in-scope texts, of those kept for choices, that the threshold may turn away.
TURNED_AWAY = 0.03


@dataclass(frozen=True, slots=True)
class IntentAnswers:
    """For each text of the test fold the likeliest intent and its probability; the threshold of scope."""

    guess: list[str]
    highest: Floats
    threshold: float


def probe_intents(examples: Sequence[Example], features: Floats) -> IntentAnswers:
    """Fits on the training fold without what is out of scope; answers for the test fold."""
    folds = np.array([e.fold for e in examples])
    topics = np.array([e.topic or "" for e in examples])
    learnt = (folds == "train") & (topics != OUTSIDE)
    model = LogisticRegression(C=INVERSE_RIDGE, max_iter=200).fit(features[learnt], topics[learnt])
    given = model.predict_proba(features[folds == "test"])
    kept = (folds == "dev") & (topics != OUTSIDE)
    threshold = 0.0
    if kept.any():
        threshold = float(np.quantile(model.predict_proba(features[kept]).max(axis=1), TURNED_AWAY))
    return IntentAnswers(
        [str(name) for name in model.classes_[given.argmax(axis=1)]],
        given.max(axis=1).astype(np.float32),
        threshold,
    )


def intent_figures(answers: IntentAnswers, examples: Sequence[Example]) -> dict[str, float]:
    """In-scope accuracy with nothing turned away; with the threshold it and the recall of out of scope."""
    test = [e for e in examples if e.fold == "test"]
    topics = np.array([e.topic for e in test])
    right = np.array(answers.guess) == topics
    outside = topics == OUTSIDE
    figures = {"texts": float(len(test)), "accuracy": float(right[~outside].mean())}
    if outside.any():
        kept = answers.highest >= answers.threshold
        figures["accuracy_with_threshold"] = float((right & kept)[~outside].mean())
        figures["out_of_scope_recall"] = float((~kept[outside]).mean())
    figures["accuracy_tfidf"] = _linear_accuracy(examples)
    return figures


def _linear_accuracy(examples: Sequence[Example]) -> float:
    learnt = [e for e in examples if e.fold == "train" and e.topic != OUTSIDE]
    test = [e for e in examples if e.fold == "test" and e.topic != OUTSIDE]
    words = vectorizer("en")
    matrix = words.fit_transform([e.text for e in learnt])
    model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=30, random_state=0)
    model.fit(matrix, [e.topic for e in learnt])
    return float(model.score(words.transform([e.text for e in test]), [e.topic for e in test]))
