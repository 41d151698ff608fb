"""All of torchvision's classification models at every boundary; minutes, so run on request.

With `-s` each model prints its number of cuts, the image size, and how long it took.
"""

from __future__ import annotations

import time

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import list_models

from tests.trainable.families import disturb, leave_activation_out
from trainable.backbones import Backbone, torchvision_models, trace_on_meta, untrained
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.errors import BackboneError

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (64, 70, 96, 224)
"""Sides of images, in pixels; the first that a model takes spares most of the arithmetic."""


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models(torchvision.models))
def test_every_model_is_itself_again_wherever_it_is_cut(name: str) -> None:
    began = time.monotonic()
    size = smallest(name)
    backbone = untrained(name)
    traced = backbone.traced(size)
    torch.manual_seed(0)
    disturb(traced.module, head=str(traced.head.target))
    model = unsplit(backbone, size)
    leave_activation_out(name, model)
    del backbone  # of some models the weights are gigabytes
    head = model.get_submodule(str(traced.head.target))
    images = torch.randn(2, 3, size, size)
    cuts = len(boundaries(traced))
    with torch.no_grad():
        whole = model(images.clone())
        assert whole.isfinite().all()
        assert not torch.equal(whole[0], whole[1])
        for frozen in range(cuts + 1):
            halves = split(traced, frozen=frozen, num_classes=7)
            halves.suffix.set_submodule(halves.head, head)  # in place of the new one
            halves.suffix.eval()
            assert torch.equal(halves.suffix(halves.prefix(images.clone())), whole), frozen
    print(f"{name}: {cuts + 1} cuts at {size} px, {time.monotonic() - began:.0f} s", flush=True)


def smallest(name: str) -> int:
    """The first of the sizes that the model takes."""
    for size in SIZES[:-1]:
        try:
            trace_on_meta(name, size=size)
        except BackboneError:
            continue
        return size
    return SIZES[-1]


def unsplit(backbone: Backbone, size: int) -> nn.Module:
    """torchvision's own module, never traced, on the same tensors as the graph."""
    model = torchvision_models.build(backbone.weights, size=size).eval()
    tensors = backbone.traced(size).module.state_dict()
    state = model.state_dict()  # carries the versions that some layers ask for
    # What the graph lacks are buffers that it holds as constants of its own.
    state.update({key: tensors[key] for key in state.keys() & tensors.keys()})
    model.load_state_dict(state, assign=True)
    return model
