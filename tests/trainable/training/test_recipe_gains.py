"""The default recipe gains on the linear probe when the images differ from pretraining.

The shipped networks were pretrained on bright strokes and shapes on black. Dim and dark digits on
grey are another domain for them, as hand signs are for a network of ImageNet.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.baselines import run_baseline
from trainable.training.probe import ProbeMemo
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWS = (0, 1)
BUDGET = LabelBudget(20)


def dimmed(encoded: bytes) -> bytes:
    """The image as a PNG, dark on grey instead of bright on black, with half of the contrast."""
    pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))
    file = io.BytesIO()
    Image.fromarray((255 - pixels) // 2).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def dim_digits(digit_images: LabelledExamples) -> LabelledExamples:
    return LabelledExamples.from_bytes(
        (dimmed(digit_images.encoded(index)) for index in range(len(digit_images))),
        labels=digit_images.labels,
        split=digit_images.split,
        class_names=digit_images.class_names,
        paths=digit_images.paths,
    )


@pytest.mark.parametrize("name", ["tiny_strokes", "tiny_fractals"])
def test_the_default_recipe_gains_a_point_on_the_probe(
    dim_digits: LabelledExamples, name: str
) -> None:
    backbone, probes = Backbone(load_weights(name)), ProbeMemo()
    probe = run_baseline(
        dim_digits,
        backbone=backbone,
        budget=BUDGET,
        validation=Validation(3),
        repeats=len(DRAWS),
        seed=0,
        probes=probes,
    )
    spec = TrialSpec(
        backbone=name, lr=1e-3, label_budget=BUDGET, freeze_depth=0.25, steps=60, batch_size=32
    )
    start, *_, last = Trial(spec, dim_digits, backbone, probes=probes).reports()
    assert start.val_accuracy == probe.validation.accuracy
    assert last.val_objective > start.val_objective
    refits = [
        Trial(
            replace(spec, interpolation=last.interpolation, repeat=draw),
            dim_digits,
            backbone,
            probes=probes,
        ).refit()
        for draw in DRAWS
    ]
    gains = [
        fine_tuned.scores.objective(Metric.ACCURACY) - beside.scores.objective(Metric.ACCURACY)
        for fine_tuned, beside in zip(refits, probe.tests, strict=True)
    ]
    assert np.mean(gains) > 0.01
