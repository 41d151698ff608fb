import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from trainable.data.labelled_examples import LabelledExamples
from trainable.training.logistic import LinearClassifier, fit_path

Floats = npt.NDArray[np.float64]
PENALTIES = (1e-3, 1e-1, 1.0, 10.0)


def problem(classes: int, *, seed: int = 0) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """Training features of different scales, their labels, and features to predict."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(classes), 12)
    centres = rng.normal(size=(classes, 8))
    scales, shifts = 10.0 ** rng.integers(-1, 2, 8), rng.normal(size=8) * 5
    train = (centres[labels] + rng.normal(size=(len(labels), 8))) * scales + shifts
    unseen = (centres[labels] + rng.normal(size=(len(labels), 8))) * scales + shifts
    return train, labels, unseen


def fitted(
    features: Floats,
    labels: npt.NDArray[np.int64],
    *,
    num_classes: int,
    penalties: tuple[float, ...] = (1.0,),
) -> list[LinearClassifier]:
    return list(
        fit_path(
            torch.from_numpy(features),
            torch.from_numpy(labels),
            num_classes=num_classes,
            inverse_penalties=penalties,
        )
    )


def probabilities(classifier: LinearClassifier, features: Floats) -> Floats:
    result: Floats = classifier.log_probabilities(torch.from_numpy(features)).exp().numpy()
    return result


class CommonScaler:
    """Centres features and divides all of them by the root of their mean variance."""

    def fit(self, features: Floats) -> "CommonScaler":
        self.mean_ = features.mean(axis=0)
        variances = features.var(axis=0)
        self.scale_ = float(np.sqrt(variances[variances > 1e-20].mean()))
        return self

    def transform(self, features: Floats) -> Floats:
        centred: Floats = (features - self.mean_) / self.scale_
        return centred


def reference(
    features: Floats, labels: npt.NDArray[np.int64], unseen: Floats, inverse_penalty: float
) -> Floats:
    scaler = CommonScaler().fit(features)
    model = LogisticRegression(C=inverse_penalty, max_iter=10_000, tol=1e-8)
    model.fit(scaler.transform(features), labels)
    result: Floats = model.predict_proba(scaler.transform(unseen))
    return result


@pytest.mark.parametrize("classes", [3, 5])
def test_every_c_of_the_path_agrees_with_scikit_learn(classes: int) -> None:
    train, labels, unseen = problem(classes)
    path = fitted(train, labels, num_classes=classes, penalties=PENALTIES)
    assert len(path) == len(PENALTIES)
    for classifier, inverse_penalty in zip(path, PENALTIES, strict=True):
        expected = reference(train, labels, unseen, inverse_penalty)
        assert probabilities(classifier, unseen) == pytest.approx(expected, abs=1e-3)


def test_weights_are_those_of_scikit_learn_mapped_back_to_raw_features() -> None:
    train, labels, _ = problem(4)
    scaler = CommonScaler().fit(train)
    model = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-8).fit(
        scaler.transform(train), labels
    )
    (classifier,) = fitted(train, labels, num_classes=4, penalties=(0.1,))
    weights = model.coef_ / scaler.scale_
    assert classifier.weight.numpy() * scaler.scale_ == pytest.approx(model.coef_, abs=1e-3)
    offsets = model.intercept_ - weights @ scaler.mean_
    ours = classifier.bias.numpy()
    assert ours - ours.mean() == pytest.approx(offsets - offsets.mean(), abs=1e-2)


def test_both_rows_of_weights_of_two_classes_are_penalised() -> None:
    # For two classes scikit-learn has one row of weights and half of our penalty: C is doubled.
    train, labels, unseen = problem(2)
    (classifier,) = fitted(train, labels, num_classes=2, penalties=(0.05,))
    expected = reference(train, labels, unseen, 0.1)
    assert probabilities(classifier, unseen) == pytest.approx(expected, abs=1e-3)


def test_pixels_of_real_digits_agree_with_scikit_learn(digit_images: LabelledExamples) -> None:
    rows = [np.frombuffer(digit_images.encoded(i)[-64:], np.uint8) for i in range(200)]
    pixels = np.stack(rows).astype(np.float64) / 255
    labels = digit_images.labels[:200]
    path = fitted(pixels[:100], labels[:100], num_classes=10, penalties=(1e-2, 1.0))
    for classifier, inverse_penalty in zip(path, (1e-2, 1.0), strict=True):
        expected = reference(pixels[:100], labels[:100], pixels[100:], inverse_penalty)
        assert probabilities(classifier, pixels[100:]) == pytest.approx(expected, abs=1e-3)


def test_classifier_of_a_path_does_not_change_when_the_next_is_fitted() -> None:
    train, labels, _ = problem(3)
    (alone,) = fitted(train, labels, num_classes=3, penalties=(1e-2,))
    first, _ = fitted(train, labels, num_classes=3, penalties=(1e-2, 10.0))
    assert torch.equal(first.weight, alone.weight)
    assert torch.equal(first.bias, alone.bias)


def test_feature_that_never_varies_gets_no_weight() -> None:
    train, labels, unseen = problem(3)
    constant = np.full((len(train), 1), 7.3)
    (without,) = fitted(train, labels, num_classes=3)
    (classifier,) = fitted(np.hstack([train, constant]), labels, num_classes=3)
    assert (classifier.weight[:, -1].abs() < 1e-12).all()
    moved = np.hstack([unseen, constant * 1e6])  # other values at prediction change nothing
    expected = probabilities(without, unseen)
    assert probabilities(classifier, moved) == pytest.approx(expected, abs=1e-4)


def test_class_without_a_label_is_never_predicted_and_changes_no_other_class() -> None:
    train, labels, unseen = problem(3)
    shifted = np.where(labels == 2, 3, labels)  # class 2 of 4 is missing
    (classifier,) = fitted(train, shifted, num_classes=4)
    found = probabilities(classifier, unseen)
    assert found[:, 2].max() < 1e-3
    expected = reference(train, labels, unseen, 1.0)
    assert found[:, [0, 1, 3]] == pytest.approx(expected, abs=1e-3)


def test_gradients_switched_off_outside_do_not_stop_the_fit() -> None:
    train, labels, _ = problem(3)
    (expected,) = fitted(train, labels, num_classes=3)
    with torch.no_grad():
        (classifier,) = fitted(train, labels, num_classes=3)
    assert torch.equal(classifier.weight, expected.weight)
    assert not classifier.weight.requires_grad
