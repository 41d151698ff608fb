"""One small model of every torchvision family, with random values in all parameters and buffers.

Models have little width and depth, or small images; their code is torchvision's own.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torchvision import models
from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import Bottleneck
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.vgg import make_layers

from trainable.backbones import zoo
from trainable.backbones.graphs.graph import TracedBackbone, trace

NUM_CLASSES = 10
NUM_BETWEEN = 2


class Case(NamedTuple):
    """A model in eval mode without any neutral values, its graph, and its image size.

    The model has no activation behind its head, as a split of its graph.
    """

    model: nn.Module
    traced: TracedBackbone
    size: int


def narrowed(model: nn.Module) -> nn.Module:
    """The model without its two dense layers of 4096 units, which have most of the weights."""
    layers = [
        layer
        for layer in model.get_submodule("classifier").children()
        if isinstance(layer, nn.Linear)
    ]
    width = layers[0].in_features
    model.classifier = nn.Sequential(
        nn.Linear(width, 32),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(32, NUM_CLASSES),
    )
    return model


def convnext() -> nn.Module:
    setting = models.convnext.CNBlockConfig
    model: nn.Module = models.ConvNeXt(
        [setting(16, 32, 1), setting(32, None, 2)], stochastic_depth_prob=0.5, layer_scale=1.0
    )
    return model


def efficientnet() -> nn.Module:
    blocks = [MBConvConfig(1, 3, 1, 16, 16, 1), MBConvConfig(4, 5, 2, 16, 24, 2)]
    model: nn.Module = models.EfficientNet(blocks, dropout=0.3, stochastic_depth_prob=0.5)
    return model


def efficientnet_v2() -> nn.Module:
    blocks = [
        FusedMBConvConfig(1, 3, 1, 16, 16, 2),
        FusedMBConvConfig(4, 3, 2, 16, 24, 2),
        MBConvConfig(4, 3, 2, 24, 32, 2),
    ]
    model: nn.Module = models.EfficientNet(
        blocks, dropout=0.3, stochastic_depth_prob=0.5, last_channel=64
    )
    return model


def maxvit() -> nn.Module:
    model: nn.Module = models.MaxVit(
        (32, 32),
        stem_channels=8,
        partition_size=4,
        block_channels=[8, 16],
        block_layers=[1, 1],
        head_dim=4,
        stochastic_depth_prob=0.5,
        attention_dropout=0.2,
        mlp_dropout=0.2,
    )
    return model


def regnet() -> nn.Module:
    stages = BlockParams([1, 2], [16, 32], [8, 8], [1.0, 1.0], [2, 2], se_ratio=0.25)
    model: nn.Module = models.RegNet(stages)
    return model


def swin(**options: object) -> nn.Module:
    model: nn.Module = models.SwinTransformer(
        [4, 4],
        16,
        [2, 2],
        [2, 4],
        [4, 4],
        dropout=0.3,
        attention_dropout=0.2,
        stochastic_depth_prob=0.5,
        **options,
    )
    return model


def swin_v2() -> nn.Module:
    return swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def vgg() -> nn.Module:
    layers = make_layers([16, "M", 32, "M", 512, "M"], batch_norm=True)
    return narrowed(models.VGG(layers, init_weights=False))


def vit() -> nn.Module:
    model: nn.Module = models.VisionTransformer(
        32, 8, 3, 2, 32, 64, dropout=0.3, attention_dropout=0.2
    )
    return model


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "tiny": (zoo.build, 8),
    "alexnet": (lambda: narrowed(models.AlexNet()), 64),
    "convnext": (convnext, 32),
    "densenet": (lambda: models.DenseNet(8, (2, 3), 16, drop_rate=0.3), 32),
    "efficientnet": (efficientnet, 32),
    "efficientnet_v2": (efficientnet_v2, 32),
    # As with pretrained weights, the input is normalised again and auxiliary heads are left out.
    "googlenet": (
        lambda: models.GoogLeNet(aux_logits=False, transform_input=True, init_weights=False),
        32,
    ),
    "inception_v3": (
        lambda: models.Inception3(aux_logits=False, transform_input=True, init_weights=False),
        75,
    ),
    "maxvit": (maxvit, 32),
    "mnasnet": (lambda: models.MNASNet(0.35), 32),
    "mobilenet_v2": (lambda: models.MobileNetV2(width_mult=0.35), 32),
    "mobilenet_v3": (lambda: models.mobilenet_v3_small(weights=None), 32),
    "regnet": (regnet, 32),
    "resnet": (lambda: models.resnet18(weights=None), 32),
    "resnext": (
        lambda: models.ResNet(Bottleneck, [1, 2, 1, 1], groups=4, width_per_group=4),
        32,
    ),
    "shufflenet_v2": (lambda: models.shufflenet_v2_x0_5(weights=None), 32),
    "squeezenet": (lambda: models.squeezenet1_0(weights=None), 32),
    "swin": (swin, 32),
    "swin_v2": (swin_v2, 32),
    "vgg": (vgg, 32),
    "vit": (vit, 32),
}


ACTIVATIONS_BEHIND_HEADS = {
    "squeezenet": "classifier.2",
    "squeezenet1_0": "classifier.2",
    "squeezenet1_1": "classifier.2",
}
"""Family or model -> activation behind its head; torchvision has no others with one."""


def leave_activation_out(name: str, model: nn.Module) -> None:
    """Remove the activation behind the head of a model, if there is one."""
    if name in ACTIVATIONS_BEHIND_HEADS:
        activation = ACTIVATIONS_BEHIND_HEADS[name]
        assert isinstance(model.get_submodule(activation), nn.ReLU)
        model.set_submodule(activation, nn.Identity())


@functools.cache
def case_of(family: str) -> Case:
    """The case of a family; it is made once, so that a test that changes it makes others fail."""
    build, size = FAMILIES[family]
    torch.manual_seed(0)
    model = build().eval()
    traced = trace(model, image_size=size)
    disturb(model, head=str(traced.head.target))
    leave_activation_out(family, model)
    return Case(model, traced, size)


def disturb(model: nn.Module, *, head: str) -> None:
    """Randomise values that start neutral, such as BatchNorm's averages and a head of zeros."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    fill(model.get_submodule(head))


def fill(head: nn.Module) -> None:
    """Randomise a head, whose zeros would hide everything before it."""
    for parameter in head.parameters():
        nn.init.normal_(parameter)


def some(num_boundaries: int) -> list[int]:
    """Numbers of frozen boundaries: none, all, and a sample between them."""
    between = range(1, num_boundaries)
    sample = random.Random(num_boundaries).sample(between, min(NUM_BETWEEN, len(between)))
    return sorted({0, *sample, num_boundaries})
