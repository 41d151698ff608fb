"""The export use case: train a configuration of a sweep again, and write it for use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.datasets.holders import holders
from orchestrator.datasets.image_reader import Demand
from orchestrator.errors import UsageError
from orchestrator.methods import Method
from orchestrator.planning.preparation import read_data
from orchestrator.reading.export.card import Card, Labels
from orchestrator.reading.export.card_kinds import card_kind
from orchestrator.reading.export.card_text import CARD_FILE, card_text
from orchestrator.reading.export.choice import Choice, choose
from orchestrator.reading.export.folder import check_target, whole_folder
from orchestrator.recording.sweep_directory import Run
from orchestrator.signals import exiting_on_sigterm
from orchestrator.space import SearchSpace, load_space
from trainable.backbones import Backbone, Weights, load_weights
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import BackboneError
from trainable.export.trained_model import TrainedModel, train_configuration, train_probe
from trainable.export.written_model import write_model
from trainable.modalities import modality_called
from trainable.spec.settings import SIZES
from trainable.spec.trial_spec import LabelBudget, TrialSpec

__all__ = ["Exported", "Labels", "Listener", "export"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The result of an export.

    Attributes:
        folder: folder with all files.
        trial_id: id of the configuration.
        labels: which labels it was trained on.
        num_labels: number of these labels.
        files: names of the files, ascending.
        notes: warnings for the user; the card has them, too.
        usage: what `sft-sweep predict DIR` takes, as its help writes it.
    """

    folder: Path
    trial_id: str
    labels: Labels
    num_labels: int
    files: tuple[str, ...]
    notes: tuple[str, ...]
    usage: str

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values."""
        return {
            "folder": str(self.folder),
            "trial_id": self.trial_id,
            "labels": self.labels.value,
            "num_labels": self.num_labels,
            "files": list(self.files),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Listener:
    """Callbacks for the progress of an export.

    Attributes:
        print_message: called with a line of text at the start of each part.
        watch: called during training with the number of updates made and the total.
    """

    print_message: Callable[[str], None]
    watch: Callable[[int, int], object]


def export(
    run: Run,
    *,
    out: Path,
    listener: Listener,
    trial_id: str | None = None,
    budget: str | None = None,
    labels: Labels = Labels.ALL,
    repeat: int = 0,
) -> Exported:
    """Train a configuration again, and write it with its card and exchange formats to a folder.

    Hyperparameters are those of the trial, whatever the number of labels is now.

    Args:
        run: the sweep; nothing is written to it.
        out: a new or empty folder; it is written completely or not at all.
        listener: callbacks for progress.
        trial_id: id of the trial; None for the best of `budget`.
        budget: labels per class, or the name of a study; None for the largest.
        labels: which labels to train on.
        repeat: number of the draw of labels and of the training seed.

    Raises:
        UsageError: there is no such configuration, the examples or weights have changed, or the
            folder cannot be used.
        ExportError, BackboneError: the network cannot be written.
        StorageError: the folder cannot be written.
    """
    check_target(out)
    choice = choose(run, trial_id=trial_id, budget=budget)
    space, manifest = load_space(run.space), run.read_manifest()
    listener.print_message(choice.text)
    weights = _read_weights(run, space, choice)
    examples = _read_examples(run, space, labels, repeat, str(manifest.get("dataset_fingerprint")))
    model = _train(choice, _open_to(labels, examples), weights, labels, repeat, listener)
    card = Card(
        manifest=manifest,
        choice=choice,
        labels=labels,
        repeat=repeat,
        model=model,
        class_counts=_class_counts(examples, model.indices),
        weights=weights,
    )
    with exiting_on_sigterm(), whole_folder(out) as part:
        listener.print_message(f"writing {out}: weights, torch.export, ONNX")
        written = write_model(model, part)
        text = card_text(card, written)
        (part / CARD_FILE).write_text(text, encoding="utf-8", errors="backslashreplace")
        files = tuple(sorted(path.name for path in part.iterdir()))
    problems = [f"{one.file}: {one.problem}" for one in written.portable if one.problem]
    if written.library.problem is not None:
        problems.append(f"without the encoder for transformers: {written.library.problem}")
    return Exported(
        folder=out,
        trial_id=choice.trial_id,
        labels=labels,
        num_labels=len(model.indices),
        files=files,
        notes=(*card.warnings(), *problems),
        usage=card_kind(model.about).usage,
    )


def _class_counts(examples: LabelledExamples, indices: npt.NDArray[np.int64]) -> list[int]:
    """Return the training examples of each class; of masks, those that hold it."""
    counts: list[int] = holders(examples.at(indices)).sum(axis=0).tolist()
    return counts


def _read_weights(run: Run, space: SearchSpace, choice: Choice) -> Weights:
    name = json.loads(choice.trial["spec"])["backbone"]
    try:
        weights = load_weights(space.custom.get(name, name), task=space.task)
    except BackboneError as error:
        raise UsageError(f"{run.space}: search.backbone: {error}") from error
    # 0.1.0 recorded the name of a file of weights without its path.
    if choice.trial["weights"] not in (weights.version, PurePath(weights.version).name):
        raise UsageError(
            f"{run.path}: the weights of {name} were {choice.trial['weights']} in the sweep and "
            f"are {weights.version} now, so that this would be another network. Bring the "
            "versions of the sweep back; its manifest.json lists them"
        )
    return weights


def _read_examples(
    run: Run, space: SearchSpace, labels: Labels, repeat: int, fingerprint: str
) -> LabelledExamples:
    """Read the examples of the sweep, with the bytes of all that can be drawn now."""
    everything = labels is not Labels.BUDGET
    demand = Demand(
        budgets=(LabelBudget(),) if everything else space.label_budgets,
        repeats=max(space.finalists.repeats, repeat + 1),
        seed=space.seed,
    )
    nouns = f"{space.modality}s"
    try:
        examples = read_data(run.space, demand=demand).images
    except UsageError as error:
        if not everything:
            raise
        raise UsageError(
            f"{error}\nThe sweep itself read fewer {nouns}; to learn from those of its budget "
            "alone: --labels budget"
        ) from error
    # The sweep never read examples that no trial could use. Broken ones among them are left out
    # only now, so another fingerprint here does not prove that the examples have changed.
    same = examples.fingerprint() == fingerprint
    if not same and read_data(run.space).images.fingerprint() != fingerprint:
        raise UsageError(
            f"{run.path}: the {nouns} are not those that the sweep began with (dataset_fingerprint "
            f"was {fingerprint[:12]}): its scores would say nothing of this network. Bring the "
            f"{nouns} back, or start a new sweep with: sft-sweep launch"
        )
    return examples


def _open_to(labels: Labels, examples: LabelledExamples) -> LabelledExamples:
    """Return the examples with every split that may be trained on moved to the pool."""
    freed = {
        Labels.BUDGET: [],
        Labels.ALL: [Split.VAL],
        Labels.EVERYTHING: [Split.VAL, Split.TEST],
    }[labels]
    split = np.where(np.isin(examples.split, freed), np.int64(Split.POOL), examples.split)
    return replace(examples, split=split)


def _measured_penalty(choice: Choice, task: Mapping[str, Any], repeat: int) -> float:
    """Return the C of a probe on a draw, or on the first one if that was not recorded.

    Version 0.1.0 chose it on the first draw for all of them.
    """
    penalties: list[float] = task.get("inverse_penalties", [])
    if repeat < len(penalties):
        return penalties[repeat]
    return float(json.loads(choice.trial["params"])["inverse_penalty"])


def _train(
    choice: Choice,
    examples: LabelledExamples,
    weights: Weights,
    labels: Labels,
    repeat: int,
    listener: Listener,
) -> TrainedModel:
    task = json.loads(choice.trial["spec"])
    backbone = Backbone(weights)
    measured = LabelBudget.parse(task["label_budget"])
    budget = measured if labels is Labels.BUDGET else LabelBudget()
    if choice.trial["method"] == Method.PROBE:
        listener.print_message("fitting the probe")
        return train_probe(
            examples,
            modality_called(weights.modality).reading(backbone, task),
            budget=budget,
            inverse_penalty=_measured_penalty(choice, task, repeat),
            repeat=repeat,
            seed=task["seed"],
            size=task.get(SIZES[examples.modality]),
            precision=task.get("precision", "fp32"),  # what tasks without the key used
        )
    task.setdefault("interpolation", 1.0)  # what tasks without the key used
    spec = replace(TrialSpec.from_json(task), label_budget=budget, repeat=repeat)
    listener.print_message(
        f"training: {spec.steps} updates of {spec.batch_size} {examples.modality}s"
        if spec.interpolation
        else "no training: the trial kept nothing of its own (`interpolation` is 0)"
    )
    return train_configuration(
        spec, examples, backbone, watch=lambda step: listener.watch(step, spec.steps)
    )
