from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from orchestrator.datasets.sections import BankingSection
from tests.builders.prepared import load_images
from trainable.data.labelled_examples import Split
from trainable.modalities.text.tfidf import CHARACTERS, WORDS, tfidf_rows
from trainable.training.logistic import fit_path

ODD = [
    "",
    "a",
    "Ünïcode ÜNÏCODE",
    "two  blanks\nand lines",
    "emoji 🎉🎉🎉🎉🎉🎉",
    "中文没有空格",
    "?! ...",
]


def banking(per_class: int) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Training texts with their classes, and 200 test texts with theirs."""
    data = load_images(BankingSection(), seed=0)
    pool, test = data.indices(Split.POOL), data.indices(Split.TEST)[::2]
    chosen = np.concatenate(
        [pool[data.labels[pool] == label][:per_class] for label in range(data.num_classes)]
    )
    texts = [[data.encoded(int(i)).decode() for i in part] for part in (chosen, test)]
    return texts[0], data.labels[chosen], texts[1], data.labels[test]


def reference(training: Sequence[str], others: Sequence[str]) -> tuple[csr_matrix, csr_matrix]:
    """The tf-idf vectors of scikit-learn."""
    blocks = [
        TfidfVectorizer(sublinear_tf=True, ngram_range=WORDS),
        TfidfVectorizer(sublinear_tf=True, ngram_range=CHARACTERS, analyzer="char"),
    ]
    fitted = hstack([block.fit_transform(training) for block in blocks])
    return fitted.tocsr(), hstack([block.transform(others) for block in blocks]).tocsr()


@pytest.mark.parametrize("with_odd_texts", [False, True])
def test_dot_products_are_those_of_scikit_learns_vectors(with_odd_texts: bool) -> None:
    training, _, others, _ = banking(4)
    odd = ODD if with_odd_texts else []
    training, others = training + odd, others + odd
    fitted, unseen = tfidf_rows(training, others)
    wanted, wanted_unseen = reference(training, others)
    assert fitted.dtype == unseen.dtype == np.float32
    assert fitted.shape[1] == unseen.shape[1] <= len(training)
    np.testing.assert_allclose(fitted @ fitted.T, (wanted @ wanted.T).toarray(), atol=1e-5)
    np.testing.assert_allclose(unseen @ fitted.T, (wanted_unseen @ wanted.T).toarray(), atol=1e-5)


@pytest.mark.parametrize("inverse_penalty", [0.1, 10.0])
def test_logistic_regression_predicts_as_on_the_sparse_vectors(inverse_penalty: float) -> None:
    training, labels, others, _ = banking(4)
    fitted, unseen = tfidf_rows(training, others)
    wanted, wanted_unseen = reference(training, others)
    on_rows, on_vectors = (
        LogisticRegression(C=inverse_penalty, max_iter=5000, tol=1e-8)
        .fit(train, labels)
        .predict_log_proba(test)
        for train, test in ((fitted, unseen), (wanted, wanted_unseen))
    )
    np.testing.assert_allclose(on_rows, on_vectors, atol=1e-3)  # where the solvers stop


def test_our_logistic_regression_gives_the_same_for_the_penalty_of_its_scale() -> None:
    """It divides features by one scale, which counts columns; the penalty makes up for it."""
    training, labels, others, _ = banking(3)
    fitted, unseen = tfidf_rows(training, others)
    variances = fitted.astype(np.float64).var(axis=0)
    scale = variances[variances > 1e-20].mean() ** -0.5
    (ours,) = fit_path(
        torch.from_numpy(fitted),
        torch.from_numpy(labels),
        num_classes=10,
        inverse_penalties=[2.0],
    )
    wanted, wanted_unseen = reference(training, others)
    theirs = LogisticRegression(C=2.0 * scale**2, max_iter=5000, tol=1e-8).fit(wanted, labels)
    np.testing.assert_allclose(
        ours.log_probabilities(torch.from_numpy(unseen)).numpy(),
        theirs.predict_log_proba(wanted_unseen),
        atol=2e-3,
    )


def test_other_texts_change_nothing_about_the_training_texts() -> None:
    training, _, others, _ = banking(2)
    alone, _ = tfidf_rows(training, [])
    beside, unseen = tfidf_rows(training, others)
    np.testing.assert_array_equal(alone, beside)
    _, one = tfidf_rows(training, others[:1])
    np.testing.assert_allclose(one, unseen[:1], atol=1e-6)


def test_texts_without_any_known_gram_are_rows_of_zeros() -> None:
    _, unseen = tfidf_rows(["about cards", "about money"], ["", "中文"])
    assert not unseen.any()


def test_copies_take_no_column_of_their_own() -> None:
    fitted, _ = tfidf_rows(["one text", "another", "one text"], [])
    assert fitted.shape == (3, 2)
    np.testing.assert_allclose(fitted[0], fitted[2], atol=1e-6)
