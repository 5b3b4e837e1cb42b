"""A linear model on n-grams, beside the encoder: what Chinese words say about liking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.encoder.ngrams import ngram_ids
from models.export.checkpoint import Floats
from models.training.default_model.corpora import NEUTRAL, POSITIVE, Example

BUCKETS: Final = 1 << 19
LEAST_TEXTS: Final = 2  # a bucket that fewer texts have says nothing
INVERSE_RIDGE: Final = 0.1


def fit_table(examples: Sequence[Example]) -> Floats:
    """Weights of shape (buckets,) by logistic regression on the Chinese texts that take a side.

    A text's score, the log-odds of positive, is the sum of its buckets' weights over the root of their
    number. Each bucket learns at the pace of its inverse document frequency, which is folded in.
    """
    from sklearn.linear_model import LogisticRegression

    sided = [e for e in examples if e.language == "zh" and e.sentiment not in (None, NEUTRAL)]
    if not sided:
        return np.zeros(BUCKETS, np.float32)
    matrix = presence([e.text for e in sided])
    texts = np.asarray((matrix > 0).sum(axis=0)).ravel()
    rarity = np.where(texts >= LEAST_TEXTS, np.log((1 + len(sided)) / (1 + texts)) + 1, 0)
    model = LogisticRegression(C=INVERSE_RIDGE, solver="liblinear", fit_intercept=False, random_state=0)
    model.fit(matrix @ sparse.diags(rarity), [e.sentiment == POSITIVE for e in sided])
    return (model.coef_[0] * rarity).astype(np.float32)


def presence(texts: Sequence[str]) -> sparse.csr_matrix:
    """Shape (texts, buckets): 1 / sqrt(n) where a text has one of its n buckets."""
    ids = [ngram_ids(text, BUCKETS) for text in texts]
    counts = np.array([len(row) for row in ids])
    values = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
    ends = np.concatenate([[0], np.cumsum(counts)])
    columns: NDArray[np.int64] = np.concatenate(ids)
    return sparse.csr_matrix((values, columns, ends), shape=(len(texts), BUCKETS))


def score_texts(table: Floats, texts: Sequence[str]) -> tuple[Floats, Floats]:
    """The scores of texts (texts,), 0 without n-grams; and 1 for a text that has some, else 0."""
    matrix = presence(texts)
    return np.asarray(matrix @ table, np.float32), (matrix.getnnz(axis=1) > 0).astype(np.float32)
