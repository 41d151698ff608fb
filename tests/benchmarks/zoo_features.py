"""What the zoo's frozen features are worth on few labels, next to raw pixels.

    python tests/benchmarks/zoo_features.py

Scikit-learn's digits (1,797 scans of 8x8, 17 grey levels); 797 test images, the same throughout;
labelled images are drawn from the other 1,000, stratified, the smaller draw inside the larger.
Logistic regression on features that are centred and divided by one common scale, so that weak
channels are not blown up by the few labels; C = 1.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from trainable.zoo import ENTRIES, build, weights_path
from trainable.zoo.pretrain import normalise

LABELS_PER_CLASS = (1, 2, 5, 10, 20)
NUM_DRAWS = 5
NUM_TEST = 797
SPLIT_SEED = 0

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def zoo_features(name: str, images: Features) -> Features:
    """Pooled features (N, D) of images (N, 64) in 0..1."""
    trunk = build().eval()
    trunk.load_state_dict(load_file(weights_path(name)), strict=False)
    trunk.head = torch.nn.Identity()  # type: ignore[assignment]
    with torch.inference_mode():
        features: Features = trunk(normalise(torch.from_numpy(images).view(-1, 1, 8, 8))).numpy()
    return features


def nested_draw(labels: Labels, pool: Labels, *, draw: int) -> list[Labels]:
    """Indices (num_classes, n) of the pool in random order, one array a class."""
    order = np.random.default_rng((SPLIT_SEED, draw)).permutation(pool)
    return [order[labels[order] == label] for label in np.unique(labels)]


def probe_accuracies(features: Features, labels: Labels) -> list[float]:
    """Mean test accuracy in percent at each number of labels per class."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    test, pool = order[:NUM_TEST], order[NUM_TEST:]
    accuracies = np.zeros((NUM_DRAWS, len(LABELS_PER_CLASS)))
    for draw in range(NUM_DRAWS):
        by_class = nested_draw(labels, pool, draw=draw)
        for column, per_class in enumerate(LABELS_PER_CLASS):
            train = np.concatenate([indices[:per_class] for indices in by_class])
            mean = features[train].mean(axis=0)
            scale = np.sqrt(features[train].var(axis=0).mean())
            scaled = (features - mean) / scale
            probe = LogisticRegression(C=1.0, max_iter=1000).fit(scaled[train], labels[train])
            accuracies[draw, column] = probe.score(scaled[test], labels[test])
    return [float(accuracy) for accuracy in 100 * accuracies.mean(axis=0)]


def main() -> None:
    """Prints the table."""
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    rows = {"raw pixels": images} | {name: zoo_features(name, images) for name in ENTRIES}
    print("| features | " + " | ".join(str(count) for count in LABELS_PER_CLASS) + " |")
    print("| --- |" + " ---: |" * len(LABELS_PER_CLASS))
    for name, features in rows.items():
        cells = (f"{accuracy:.1f}" for accuracy in probe_accuracies(features, digits.target))
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
