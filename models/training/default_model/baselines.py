"""What the model is compared with: linear models on words or characters, and neighbours by TF-IDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from models.training.default_model.corpora import Example
from models.training.tasks import Floats

NEIGHBOURS = 10


def vectorizer(language: str) -> TfidfVectorizer:
    """Words and pairs of words; of Chinese 1 to 3 characters."""
    if language == "zh":
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)


def linear_model(inverse_ridge: float) -> OneVsRestClassifier:
    """Logistic regression, each class against the rest."""
    return OneVsRestClassifier(LogisticRegression(C=inverse_ridge, solver="liblinear", random_state=0))


def linear_words(learnt: Sequence[Example], test: Sequence[Example]) -> Floats:
    """Probabilities of the three sentiments, shape (texts, 3); a class that was not learnt gets 0."""
    words = vectorizer(test[0].language)
    matrix = words.fit_transform([e.text for e in learnt])
    model = linear_model(4).fit(matrix, [e.sentiment for e in learnt])
    given = np.zeros((len(test), 3), np.float32)
    given[:, model.classes_] = model.predict_proba(words.transform([e.text for e in test]))
    return given


def vote_of_neighbours(
    index: Sequence[Example], queries: Sequence[Example], embeddings: Mapping[str, Floats]
) -> dict[str, float]:
    """Accuracy of the topic that the ten nearest texts of the index agree on, weighted by cosine.

    `embeddings` are unit rows, first the index's, then the queries'; TF-IDF's are added as `knn_tfidf`.
    """
    figures = {"texts": float(len(queries))}
    for name, rows in embeddings.items():
        figures[name] = _vote(rows[len(index) :] @ rows[: len(index)].T, index, queries)
    words = vectorizer(index[0].language)
    known = words.fit_transform([e.text for e in index])
    similar = (words.transform([e.text for e in queries]) @ known.T).toarray()
    figures["knn_tfidf"] = _vote(similar.astype(np.float32), index, queries)
    return figures


def _vote(similar: Floats, index: Sequence[Example], queries: Sequence[Example]) -> float:
    names, topics = np.unique([e.topic or "" for e in index], return_inverse=True)
    nearest = np.argpartition(-similar, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    votes = np.zeros((len(queries), len(names)))
    rows = np.arange(len(queries))[:, None]
    np.add.at(votes, (rows, topics[nearest]), np.take_along_axis(similar, nearest, axis=1))
    return float((names[votes.argmax(axis=1)] == np.array([e.topic for e in queries])).mean())
