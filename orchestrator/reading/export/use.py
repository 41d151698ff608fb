"""Usage of an exported network for images: Python that needs torchvision alone, or torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.reading.export.file_table import file_table
from trainable.backbones import Preprocessing
from trainable.export.exchange_formats import ONNX_FILE, TORCH_FILE
from trainable.export.model_config import ModelConfig
from trainable.export.written_model import Written
from trainable.modalities.image.decoding import ValueRange

_IMPORTS = """\
import json
import sys
from pathlib import Path

import torch
from PIL import Image, ImageOps
"""
_START = """\
folder = Path(".")  # where this card lies
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
"""
_OPEN = """\
for path in sys.argv[1:]:
    picture = ImageOps.exif_transpose(Image.open(path))
"""
_CLASSIFY = """\
    picture = picture.convert("RGB")
    with torch.no_grad():
        shares = model(prepare(picture)[None]).softmax(dim=1)[0]
    best = int(shares.argmax())
    print(f"{path}\\t{about['class_names'][best]!r}\\t{shares[best]:.4f}")
"""
_SEGMENT = """\
    picture = picture.convert("RGB")
    with torch.no_grad():
        logits = model(prepare(picture)[None])
    size = (picture.height, picture.width)
    mask = torch.nn.functional.interpolate(logits, size=size, mode="bilinear")[0].argmax(dim=0)
    Image.fromarray(mask.byte().numpy()).save(Path(path).stem + "_mask.png")  # pixels: class ids
    ids, counts = mask.unique(return_counts=True)
    for number, count in zip(ids.tolist(), counts.tolist()):
        print(f"{path}\\t{about['class_names'][number]!r}\\t{count / mask.numel():.4f}")
"""


_FILES = {
    "model.safetensors": "weights, by the names of the network's own code",
    "model.json": "network, preprocessing and class names",
    TORCH_FILE: "the whole network for `torch.export.load`",
    ONNX_FILE: "the whole network in ONNX: `images` (N, 3, S, S), normalised, to `logits`",
}


def use_lines(about: ModelConfig, written: Written) -> list[str]:
    """Return the section of a card about the use of the network."""
    return [
        *("    sft-sweep predict DIR IMAGE...", ""),
        *_python(about, written),
        *("", *file_table(_FILES, written)),
    ]


def mask_use_lines(about: ModelConfig, written: Written) -> list[str]:
    """Return the section of a card about the use of a network that predicts masks."""
    files = {**_FILES, ONNX_FILE: f"{_FILES[ONNX_FILE]} (N, classes, S, S)"}
    return [
        *("    sft-sweep predict DIR IMAGE... -o FOLDER", ""),
        *_python(about, written, _SEGMENT),
        *("", *file_table(files, written)),
    ]


def _python(about: ModelConfig, written: Written, use: str = _CLASSIFY) -> list[str]:
    if written.library.options is not None:
        text = "Without sft-sweep, with torchvision and safetensors alone:"
        imports = (
            "from safetensors.torch import load_file\n"
            "from torchvision.models import get_model\n"
            "from torchvision.transforms import v2\n"
        )
        call = _call(about.architecture, written.library.options)
        load = (
            f"model = {call}\n"
            'model.load_state_dict(load_file(folder / "model.safetensors"))\n'
            "model.eval()\n"
        )
    elif written.has(TORCH_FILE):
        text = (
            "Without sft-sweep and without the network's own code, with torch and torchvision's "
            "transforms alone:"
        )
        imports = "from torchvision.transforms import v2\n"
        load = f'model = torch.export.load(folder / "{TORCH_FILE}").module()\n'
    else:
        return [
            "The network cannot be had without its own code: `sft-sweep predict` builds it, and in "
            "Python `trainable.export.exported_model.ExportedModel.load(Path(DIR))`."
        ]
    needed = _IMPORTS
    if about.value_range is not None:
        needed = needed.replace("import torch\n", "import numpy\nimport torch\n")
    code = (
        f"{needed}{imports}\n{_START}{load}{_prepare(about.image_preprocessing)}{_OPEN}"
        f"{_narrow(about.value_range)}{use}"
    )
    return [text, "", "```python", *code.rstrip("\n").split("\n"), "```"]


def _call(architecture: str, options: Mapping[str, Any]) -> str:
    arguments = [json.dumps(architecture), "weights=None"]
    arguments += [f"{name}={value!r}" for name, value in options.items()]
    return f"get_model({', '.join(arguments)})"


def _prepare(how: Preprocessing) -> str:
    size = (how.resize_size, how.resize_size) if how.squash else how.resize_size
    return (
        "prepare = v2.Compose(\n"
        "    [\n"
        f"        v2.Resize({size!r}, interpolation=v2.InterpolationMode"
        f"({json.dumps(how.interpolation)}), antialias=True),\n"
        f"        v2.CenterCrop({how.image_size!r}),\n"
        "        v2.PILToTensor(),\n"
        "        v2.ToDtype(torch.float32, scale=True),\n"
        f"        v2.Normalize({list(how.mean)!r}, {list(how.std)!r}),\n"
        "    ]\n"
        ")\n"
    )


def _narrow(value_range: ValueRange | None) -> str:
    """Return code that scales 16-bit grey images if there is a value range, else ""."""
    if value_range is None:
        return ""
    low, high = value_range
    return (
        '    if picture.mode.startswith("I"):  # 16-bit grey\n'
        f"        values = numpy.asarray(picture).clip({low}, {high}) - {low}.0\n"
        f"        grey = (values / {(high - low) / 255!r}).round().astype(numpy.uint8)\n"
        "        picture = Image.fromarray(grey)\n"
    )
