"""Accuracy of the shipped backbones' frozen features on few labels, against raw pixels.

    python tests/benchmarks/zoo_features.py

The data are the embedded digits with their fixed 797 test images, and nested draws of labels as in
a sweep. The classifier is logistic regression as in the `probe` and `pixels` baselines, always with
C = 1, because a budget of one label per class has no validation images to choose C by. (C = 0.1, 1
and 3 were compared on drawn letters, never on digits, and hardly differed.)
"""

from __future__ import annotations

import torch

from orchestrator.datasets import digits
from trainable.backbones import Backbone, load_weights
from trainable.backbones.zoo import ENTRIES
from trainable.data.labelled_examples import Split
from trainable.data.subsets import draw_subset
from trainable.spec.trial_spec import LabelBudget
from trainable.training.baseline_features import BaselineFeatures, FrozenFeatures, PixelFeatures
from trainable.training.logistic import fit_path

LABELS_PER_CLASS = (1, 2, 5, 10, 20)
NUM_DRAWS = 5


def main() -> None:
    """Print the table."""
    images = digits.load(test=None, seed=0)
    labels = torch.from_numpy(images.labels)
    test = images.indices(Split.TEST)
    everything = torch.arange(len(images)).numpy()
    print("| features | " + " | ".join(str(count) for count in LABELS_PER_CLASS) + " |")
    print("| --- |" + " ---: |" * len(LABELS_PER_CLASS))
    for name in [None, *ENTRIES]:
        made: BaselineFeatures = (
            PixelFeatures(images, everything, device=torch.device("cpu"))
            if name is None
            else FrozenFeatures(images, Backbone(load_weights(name)))
        )
        features, _ = made.of(everything)(everything, everything[:0])
        cells = []
        for per_class in LABELS_PER_CLASS:
            right = 0.0
            for repeat in range(NUM_DRAWS):
                draw = draw_subset(images, budget=LabelBudget(per_class), repeat=repeat, seed=0)
                (classifier,) = fit_path(
                    features[draw],
                    labels[draw],
                    num_classes=images.num_classes,
                    inverse_penalties=[1.0],
                )
                predicted = classifier.log_probabilities(features[test]).argmax(dim=1)
                right += float((predicted == labels[test]).double().mean())
            cells.append(f"{100 * right / NUM_DRAWS:.1f}")
        print(f"| {name or 'raw pixels'} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
