"""A Trainer of transformers whose search Ray Tune runs, as the documentation of both writes it.

`Trainer.hyperparameter_search(backend="ray")` with a `model_init`, texts padded to the longest of
their batch, and frozen layers by `requires_grad`.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.sharing.clock import Clock, Measured
from tests.benchmarks.sharing.work import mean
from tests.benchmarks.text_trainer.work import SLOTS, Text, Work

EVALUATION_BATCH = 32


def run_trials(path: Path) -> tuple[Measured, dict[float, float]]:
    """The trials of a work file; what was measured, and the mean seconds of a trial by depth."""
    from orchestrator.running.cluster import LOCAL
    from orchestrator.running.ray_tune.cluster import cluster

    work, clock = Work.load(path), Clock()
    with cluster(LOCAL, num_cpus=SLOTS), tempfile.TemporaryDirectory() as folder:
        results = _search(work, clock, folder)
    if len(results) != work.task.num_trials:
        raise RuntimeError(f"{len(results)} trials instead of {work.task.num_trials}")
    by_depth: dict[float, list[float]] = defaultdict(list)
    for result in results:
        by_depth[result["config"]["depth"]].append(result["time_total_s"])
    measured = Measured(
        seconds=clock.seconds, accuracy=mean(result["eval_accuracy"] for result in results)
    )
    return measured, {depth: mean(seconds) for depth, seconds in by_depth.items()}


def _search(work: Work, clock: Clock, folder: str) -> list[dict[str, Any]]:
    """The last report of every trial."""
    from ray import tune
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    task = work.task
    tokenizer = AutoTokenizer.from_pretrained(work.model)

    def tokenized(texts: Sequence[Text]) -> list[dict[str, Any]]:
        return [{**tokenizer(text, truncation=True), "label": label} for text, label in texts]

    def model_init(trial: dict[str, Any] | None) -> Any:
        model = AutoModelForSequenceClassification.from_pretrained(
            work.model, num_labels=work.num_classes
        )
        if trial is not None:
            freeze(model.base_model, work.frozen[trial["depth"]])
        return model

    trainer = Trainer(
        model_init=model_init,
        args=TrainingArguments(
            output_dir=folder,
            max_steps=task.steps,
            per_device_train_batch_size=task.batch_size,
            per_device_eval_batch_size=EVALUATION_BATCH,
            lr_scheduler_type="cosine",
            eval_strategy="steps",
            eval_steps=task.steps // task.reports,
            eval_on_start=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=tokenized(work.train),
        eval_dataset=tokenized(work.val),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=accuracy,
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda _: {
            "learning_rate": tune.grid_search(list(task.lrs)),
            "depth": tune.grid_search(list(task.depths)),
        },
        backend="ray",
        direction="maximize",
        n_trials=1,  # times the grid
        resources_per_trial={"cpu": 1},
        storage_path=folder,
        verbose=0,
        callbacks=[clock],
    )
    return list(best.run_summary.results.values())


def freeze(model: Any, names: Sequence[str]) -> None:
    """Take parameters out of training.

    Raises:
        RuntimeError: the model has no parameter of a name.
    """
    parameters = dict(model.named_parameters())
    missing = sorted(set(names) - set(parameters))
    if missing:
        raise RuntimeError(f"no parameters {missing[:3]}; the model has {sorted(parameters)[:3]}")
    for name in names:
        parameters[name].requires_grad_(requires_grad=False)


def accuracy(predicted: Any) -> dict[str, float]:
    """Share of texts whose class has the greatest logit."""
    logits, labels = predicted
    return {"accuracy": float((logits.argmax(axis=1) == labels).mean())}
