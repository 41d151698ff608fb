"""A first search-space file for a data set: commented, and sized to what lies there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from orchestrator.errors import UsageError
from orchestrator.space import DEFAULT_TEST_SHARE

BUDGETS = (2, 5, 10, 20, 50)
"""Label budgets that are asked about where there are examples enough."""

ON_GPU = ("resnet50", "convnext_tiny", "vit_b_16")
ON_CPU = ("mobilenet_v3_small", "resnet18")
"""Backbones of torchvision that suit the device, the preferred ones first."""

FOR_TEXTS = ("transformers:sentence-transformers/all-MiniLM-L6-v2",)
"""Backbones for texts."""

WITHOUT_WEIGHTS = "tiny_strokes"
"""A backbone that is always available, though made for small drawings."""

_TRANSFORMERS = "*vit_*"
_RATES_OF_TRANSFORMERS = "low: 1.0e-5, high: 5.0e-4, log: true"
"""Of fine-tuning with layer decay in the literature (Bao et al., BEiT, 2022; He et al., Masked
autoencoders, 2022), whose 5e-4 is of batches of 1,024; nothing of it was measured here."""

_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The data that a file is written for.

    Attributes:
        path: of the folder of class folders, or of the table; absolute.
        counts: examples outside the data's own test split, by class.
        own_test: whether the data have a test split of their own.
        source: of `dataset:`.
        keys: of `dataset:`, beside source, path and test.
        other_labels: columns of a table that may hold the classes instead.
        modality: `image` or `text`.
        task: `classification`, or `segmentation` where there are masks; `counts` are those of
            images that hold a class then.
        num_images: images with masks outside the data's own test split.
    """

    path: str
    counts: Mapping[str, int]
    own_test: bool
    source: str = "folder"
    keys: Mapping[str, object] = field(default_factory=dict)
    other_labels: Sequence[str] = ()
    modality: str = "image"
    task: str = "classification"
    num_images: int = 0

    @property
    def available(self) -> int:
        """Examples that budgets can draw on, of the smallest class, less a share for the test."""
        smallest = min(self.counts.values()) if self.task == "classification" else self.num_images
        return smallest if self.own_test else int(smallest * (1 - DEFAULT_TEST_SHARE))


IMAGES = "labelled images"
"""What label budgets count where labels are masks."""


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """What a file says for examples of one modality.

    Attributes:
        lr: the range of learning rates.
        unit: what label budgets count.
        objective: the lines about the metric.
        augment: the lines about random views of training examples.
        baselines: what finalists are compared with.
    """

    lr: str
    unit: str
    objective: tuple[str, ...]
    augment: tuple[str, ...]
    baselines: tuple[str, ...]

    def size(self, *, gpu: bool) -> str:
        """The settings of sizes: masks are learnt at one that a machine without a GPU can bear."""
        if self.unit != IMAGES:
            return "batch_size: 32"
        return f"batch_size: 16, image_size: {256 if gpu else 128}"


def _objective_of_classes(noun: str) -> tuple[str, ...]:
    return (
        "# objective: {metric: accuracy}  # left out: balanced_accuracy where the commonest class",
        f"#   of the test {noun}s has more than 1.5 times its share under balance, else accuracy",
    )


_RECIPES = {
    ("segmentation", "image"): _Recipe(
        lr="{low: 3.0e-4, high: 1.0e-2, log: true}",
        unit=IMAGES,
        objective=("# objective: {metric: miou}  # or pixel_accuracy, log_loss",),
        augment=(
            "# random views of training images and masks, which take as much longer as there are",
            "# augment: {ops: [horizontal_flip, {affine: {degrees: 10}}], views: 4}",
        ),
        baselines=("majority", "pixels", "probe"),
    ),
    ("classification", "image"): _Recipe(
        lr="{low: 2.0e-4, high: 2.0e-3, log: true}",
        unit="labels per class",
        objective=_objective_of_classes("image"),
        augment=(
            "# random views of training images; without horizontal_flip where left is not right",
            "augment: {ops: [horizontal_flip, {resized_crop: {scale: [0.5, 1.0]}}], views: auto}",
        ),
        baselines=("pixels", "probe"),
    ),
    ("classification", "text"): _Recipe(
        lr="{low: 1.0e-5, high: 1.0e-3, log: true}",
        unit="labels per class",
        objective=_objective_of_classes("text"),
        augment=(),
        baselines=("tfidf", "probe"),
    ),
}


def template_text(
    folder: Folder, *, name: str, backbones: Sequence[str], missing: Sequence[str], gpu: bool
) -> str:
    """Return the text of a search-space file.

    Args:
        folder: the data.
        name: name of the sweep.
        backbones: backbones to try, at least one; weights are on this machine or can be fetched.
        missing: others that would suit the device, but whose weights are not available here.
        gpu: whether this machine has a GPU.

    Raises:
        UsageError: the smallest class has too few examples for any budget.
    """
    noun, recipe = folder.modality, _RECIPES[folder.task, folder.modality]
    budgets = [budget for budget in BUDGETS if budget <= folder.available]
    if not budgets and folder.task == "segmentation":
        raise UsageError(
            f"{folder.path}: {folder.num_images} images with masks; a label budget of {BUDGETS[0]} "
            f"needs {BUDGETS[0]} outside the test split. Add images"
        )
    if not budgets:
        smallest = min(folder.counts, key=lambda each: folder.counts[each])
        raise UsageError(
            f"{folder.path}: class {smallest!r} has {folder.counts[smallest]} {noun}s; a label "
            f"budget of {BUDGETS[0]} needs {BUDGETS[0]} outside the test split. Add {noun}s, or "
            "take the class away"
        )
    names = [json.dumps(each, ensure_ascii=False) for each in folder.counts]
    shown = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    counts = folder.counts.values()
    number = folder.num_images or sum(counts)
    place = " outside a test split of their own" if folder.own_test else ""
    lines = [
        f"# {len(names)} classes: {shown}",
        f"# {number:,} {noun}s{place}; the smallest class has {min(counts)}, the largest "
        f"{max(counts)}",
        f"name: {name}",
        "dataset:",
        f"  source: {folder.source}",
        f"  path: {json.dumps(folder.path, ensure_ascii=False)}",
        *(f"  {key}: {json.dumps(of, ensure_ascii=False)}" for key, of in folder.keys.items()),
    ]
    if folder.other_labels:
        others = ", ".join(json.dumps(name, ensure_ascii=False) for name in folder.other_labels)
        lines.append(f"  # label_column may be another one: {others}")
    if not folder.own_test:
        lines.append(f"  test: {DEFAULT_TEST_SHARE}  # share kept for the test set, by content")
    if folder.task == "classification":
        lines.append(
            "  # group: patient  # column of what must stay together"
            if folder.source == "table"
            else '  # group: "^[^_]+"  # what of a path must stay together: a patient, a burst'
        )
    lines += [
        "search:",
        f"  backbone: [{', '.join(backbones)}]",
    ]
    if missing:
        lines.append(
            f"  # not here, and no network to fetch them: {', '.join(missing)} "
            "(`sft-sweep validate` says where the files go)"
        )
    lines += [
        "  freeze_depth: {low: 0.0, high: 0.75, step: 0.25}"
        if gpu
        else "  freeze_depth: [0.25, 0.5, 0.75]  # without a GPU not all of it can be trained",
        *_rates(recipe.lr, backbones),
        f"  label_budget: [{', '.join(map(str, budgets))}]  # {recipe.unit}; one study each",
        f"training: {{steps: {200 if gpu else 120}, reports: 4, {recipe.size(gpu=gpu)}}}",
        *recipe.augment,
        "validation: {folds: 3}  # paid from inside the label budget",
        *recipe.objective,
        f"trials: {24 if gpu else 12}  # per label budget",
        "finalists: {count: 3, repeats: 5}",
        f"baselines: [{', '.join(recipe.baselines)}]",
        "limits: {hours: 2}  # ends cleanly, finalists scored",
        "seed: 0",
    ]
    return "\n".join(lines) + "\n"


def _rates(lr: str, backbones: Sequence[str]) -> list[str]:
    """Return the lines about learning rates; vision transformers have rates of their own."""
    if not any(fnmatchcase(name, _TRANSFORMERS) for name in backbones):
        return [f"  lr: {lr}"]
    when = f'when: {{backbone: "{_TRANSFORMERS}"}}'
    return [
        "  lr:",
        "    cases:  # those of transformers are from the literature, the others were measured",
        f"      - {{{when}, {_RATES_OF_TRANSFORMERS}}}",
        f"      - {lr}",
        f"  layer_decay: {{low: 0.6, high: 1.0, {when}}}  # from the literature, too",
    ]
