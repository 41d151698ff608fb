"""All of torchvision's classification models; minutes of arithmetic, so run on request."""

from __future__ import annotations

import copy
import random

import pytest
import torch
import torchvision
from torchvision.models import list_models

from trainable.backbones import untrained
from trainable.boundaries import boundaries
from trainable.freezing import split

SAMPLED = 2


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models(torchvision.models))
def test_every_model_can_be_cut_and_is_itself_again(name: str) -> None:
    backbone = untrained(name)
    size = backbone.weights.preprocessing.image_size
    traced = backbone.traced(size)
    cuts = len(boundaries(traced))
    assert 5 <= cuts <= 160
    middle = random.Random(name).sample(range(1, cuts), SAMPLED)
    head = str(traced.head.target)
    torch.manual_seed(0)
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        whole = traced.module(images)
        for frozen in (0, *middle, cuts):
            halves = split(traced, frozen=frozen, num_classes=7)
            # The original head back in place of the new one.
            halves.suffix.set_submodule(head, copy.deepcopy(traced.module.get_submodule(head)))
            halves.suffix.eval()
            assert torch.equal(halves.suffix(halves.prefix(images)), whole), frozen
