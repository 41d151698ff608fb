"""Exporting the network of a sweep: for programs, for notebooks and for the command."""

from __future__ import annotations

from pathlib import Path

from orchestrator.api.guest import as_usage_errors
from orchestrator.api.progress_lines import print_message
from orchestrator.api.sweeps import path_of
from orchestrator.errors import UsageError
from orchestrator.reading import export as exporting
from orchestrator.reading.export import Exported, Labels, Listener
from orchestrator.reading.loading import LoadedRun
from orchestrator.recording.sweep_directory import find_run
from orchestrator.throttle import Throttled
from trainable.spec.refusals import refusal

LINE_EVERY_S = 5.0
"""Shortest time between two lines about training, in seconds."""


def export(
    run: str | Path | LoadedRun | None,
    out: str | Path,
    *,
    trial: str | None = None,
    budget: float | str | None = None,
    labels: str = Labels.ALL,
    repeat: int = 0,
) -> Exported:
    """Train a configuration once more and write it down: weights, ONNX, a model card.

        done = orchestrator.export("runs/lowdata-20260131-142530", "model")
        done.folder, done.files, done.num_labels

        from trainable.export.exported_model import ExportedModel
        model = ExportedModel.load(done.folder)     # needs no Ray and no sweep

    Progress goes to stderr. Interrupted, it leaves no folder.

    Args:
        run: a sweep directory, its URL in a store, or a loaded run; None for the newest in `runs/`.
        out: the folder to write, new or empty; it is there whole or not at all.
        trial: which trial, such as `b5-0007`; left out, the best of `budget`.
        budget: labels per class, or the name of a study; left out, the largest.
        labels: what it learns from: `all` labels outside the test split; those of its `budget`, as
            its finalist did; or `everything`, the test split included.
        repeat: which draw of labels, and with it the training seed.

    Raises:
        UsageError: there is no such sweep or configuration, the examples or weights have changed,
            the network cannot be written, or the folder cannot be used.
        StorageError: the folder cannot be written.
    """
    if labels not in list(Labels):
        raise UsageError(f"labels: {refusal(labels, ', '.join(Labels), Labels)}")
    with as_usage_errors():
        found = find_run(path_of(run))
        print_message(f"exporting from {found.path}")
        done = exporting.export(
            found,
            out=Path(out),
            listener=Listener(
                print_message=print_message,
                watch=Throttled(_print_step, every_s=LINE_EVERY_S),
            ),
            trial_id=trial,
            budget=f"{budget:g}" if isinstance(budget, int | float) else budget,
            labels=Labels(labels),
            repeat=repeat,
        )
    for note in done.notes:
        print_message(f"mind: {note}")
    return done


def _print_step(step: int, steps: int) -> None:
    print_message(f"training: {step} of {steps} updates")
