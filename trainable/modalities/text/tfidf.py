"""Tf-idf of word and character n-grams, as dense rows for a linear classifier.

What scikit-learn's `TfidfVectorizer(sublinear_tf=True)` makes of words (1 and 2 in a row) and, in
another block beside it, of characters (2 to 5 in a row): G. Salton, C. Buckley, Term-weighting
approaches in automatic text retrieval, 1988. Both are written out here, because a trial runs where
there is nothing but PyTorch.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.float32]

WORDS = (1, 2)
CHARACTERS = (2, 5)
"""Least and most of them in a row."""

_WORD = re.compile(r"\b\w\w+\b")
_BLANKS = re.compile(r"\s\s+")
_SMALLEST_SHARE = 1e-12
"""Eigenvalues below this share of the largest are rounding errors."""
_DENSE_NUMBERS = 2**22
"""Numbers of the sparse rows that are made dense at a time."""

_Analyzer = Callable[[str], Iterator[str]]


def tfidf_rows(training: Sequence[str], others: Sequence[str]) -> tuple[Rows, Rows]:
    """Rows of training texts and of other texts, of at most as many columns as training texts.

    N-grams and their frequencies are those of the training texts alone. The rows are coordinates in
    the span of the training texts' tf-idf vectors, turned such that the columns are orthogonal: dot
    products with training rows are those of the tf-idf vectors. A linear classifier with an L2
    penalty has its weights in that span (G. Kimeldorf, G. Wahba, 1971), so that on these rows it
    gives the predictions that it gives on the tf-idf vectors, for the same penalty.

    Args:
        training: N texts, at least one.
        others: M texts.

    Returns:
        (N, R) and (M, R) float32, R <= N.
    """
    blocks = [_block(analyzer, training, others) for analyzer in (_word_grams, _character_grams)]
    inside = sum((_products(fitted, fitted) for fitted, _ in blocks), start=torch.zeros(()))
    across = sum((_products(unseen, fitted) for fitted, unseen in blocks), start=torch.zeros(()))
    values, vectors = torch.linalg.eigh(inside)
    kept = values > _SMALLEST_SHARE * values.max()
    scales, vectors = values[kept].sqrt(), vectors[:, kept]
    return (
        (vectors * scales).float().numpy(),
        (across @ (vectors / scales)).float().numpy(),
    )


def _word_grams(text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower())
    for length in range(WORDS[0], WORDS[1] + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _character_grams(text: str) -> Iterator[str]:
    line = _BLANKS.sub(" ", text.lower())
    for length in range(CHARACTERS[0], CHARACTERS[1] + 1):
        for start in range(len(line) - length + 1):
            yield line[start : start + length]


def _block(
    analyzer: _Analyzer, training: Sequence[str], others: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """(N, V) and (M, V) sparse float64 tf-idf vectors, each of length 1 or of zeros."""
    counts = [Counter(analyzer(text)) for text in training]
    frequencies = Counter(chain.from_iterable(counts))
    column = {gram: number for number, gram in enumerate(frequencies)}
    weights = {  # as if one more text held every n-gram
        gram: math.log((1 + len(counts)) / (1 + frequency)) + 1
        for gram, frequency in frequencies.items()
    }
    unseen = (Counter(gram for gram in analyzer(text) if gram in column) for text in others)
    return (
        _vectors(counts, column, weights, num_rows=len(training)),
        _vectors(unseen, column, weights, num_rows=len(others)),
    )


def _vectors(
    counts: Sequence[Counter[str]] | Iterator[Counter[str]],
    column: dict[str, int],
    weights: dict[str, float],
    *,
    num_rows: int,
) -> Tensor:
    """(num_rows, V) sparse float64 vectors of the n-grams' counts."""
    rows: list[npt.NDArray[np.int64]] = []
    columns: list[npt.NDArray[np.int64]] = []
    values: list[npt.NDArray[np.float64]] = []
    for row, found in enumerate(counts):
        of_row = np.fromiter(
            ((1 + math.log(count)) * weights[gram] for gram, count in found.items()), np.float64
        )
        rows.append(np.full(len(found), row))
        columns.append(np.fromiter((column[gram] for gram in found), np.int64, len(found)))
        values.append(of_row / max(float(np.linalg.norm(of_row)), 1e-300))
    empty: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    places = np.stack([np.concatenate(rows + empty), np.concatenate(columns + empty)])
    return torch.sparse_coo_tensor(
        torch.from_numpy(places),
        torch.from_numpy(np.concatenate([*values, np.empty(0)])),
        (num_rows, len(column)),
        check_invariants=False,
    ).coalesce()


def _products(left: Tensor, right: Tensor) -> Tensor:
    """(M, N) dense dot products of M sparse rows with N, of which a few are dense at a time."""
    step = max(1, _DENSE_NUMBERS // max(1, right.shape[1]))
    places, values = right.indices(), right.values()
    parts = [torch.zeros(left.shape[0], 0, dtype=torch.float64)]
    for start in range(0, right.shape[0], step):
        inside = (places[0] >= start) & (places[0] < start + step)
        rows, columns = places[:, inside]
        count = min(step, right.shape[0] - start)
        dense = torch.zeros(right.shape[1], count, dtype=torch.float64)
        dense[columns, rows - start] = values[inside]
        parts.append(torch.sparse.mm(left, dense))
    return torch.cat(parts, dim=1)
