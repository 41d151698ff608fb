"""Write the model card of an exported network in Markdown."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from orchestrator.reading.export.card import Card, Labels
from orchestrator.reading.export.card_kinds import card_kind
from orchestrator.reading.export.front_matter import front_matter
from orchestrator.reading.export.markdown import escaped, table
from orchestrator.reading.phrases import collapses
from orchestrator.text import metric_name, percent, plural, score, score_with_unit
from trainable.export.written_model import Written
from trainable.spec.settings import SIZES
from trainable.spec.trial_spec import TrialSpec

CARD_FILE = "README.md"

_MOST_CLASSES = 100


def card_text(card: Card, written: Written) -> str:
    """Return the card in Markdown; text from outside is escaped.

    Args:
        card: content of the card.
        written: files that were written.
    """
    about, own = card.model.about, card_kind(card.model.about)
    kind = "fine-tuned" if card.is_trained else f"{card.start} on"
    backbone = escaped(card.choice.trial["backbone"])
    title = f"{escaped(card.manifest['sweep_id'])}: {kind} {backbone}"
    parts = [
        front_matter(card, written),
        [f"# {title}"],
        [
            f"A network that {own.does} {len(about.class_names):,} classes. Written by "
            f"sft-sweep {escaped(metadata.version('sft-sweep'))}; trial "
            f"{escaped(card.choice.trial_id)} was taken because {card.choice.reason}."
        ],
        ["## How good it is", "", *_scores(card)],
        ["## How to use it", "", *own.use(about, written)],
        ["## What it is", "", *table(("", ""), _facts(card))],
        ["## How it was trained", "", *training_section(card)],
        ["## Preprocessing", "", *own.preprocessing(about)],
        ["## Classes", "", *_classes(card)],
        ["## Where it comes from", "", *table(("", ""), _provenance(card))],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _scores(card: Card) -> list[str]:
    trial, board, finals = card.choice.trial, card.choice.board, card.choice.finals
    lines = []
    if board is not None and board["test_score"] is not None and finals:
        metric = board["metric"]
        low = score(board["test_ci_low"], metric)
        high = score_with_unit(board["test_ci_high"], metric)
        lines.append(
            f"On the test {card.noun}s the {metric_name(metric)} of this configuration is "
            f"**{score_with_unit(board['test_score'], metric)}** (95 % interval {low} to {high}) "
            f"at **{card.measured}**: the mean of {plural(board['repeats'], 'repeat')}, each with "
            "labels drawn afresh where there are others, on "
            f"{plural(finals[0]['num_test'], f'test {card.noun}')}."
        )
        lines += [f"Mind: {clause}." for clause in collapses(board)]
        lines += ["", *table(("", "mean of the repeats"), _means(finals))]
    elif trial["val_accuracy"] is None and trial["val_objective"] is not None:
        metric = trial["objective"]
        lines.append(
            f"**It has no test score:** it was no finalist. In validation at {card.measured}, the "
            f"{metric_name(metric)} on {plural(trial['num_val'] or 0, card.noun)} is "
            f"{score_with_unit(trial['val_objective'], metric)}, which flatters the best of many."
        )
    elif trial["val_accuracy"] is not None:
        lines.append(
            f"**It has no test score:** it was no finalist. In validation at {card.measured}, "
            f"{percent(trial['val_accuracy'])} % of {plural(trial['num_val'] or 0, card.noun)} "
            "were classified rightly, which flatters the best of many."
        )
    else:
        lines.append("**Nothing is known of how good it is.**")
    lines += ["", _belongs(card)]
    warnings = [f"- Mind: {escaped(one)}." for one in card.warnings()]
    return [*lines, "", *warnings] if warnings else lines


def _means(finals: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    names = {
        "test_accuracy": "accuracy",
        "test_balanced_accuracy": "balanced accuracy",
        "test_loss": "log loss, nats",
        "test_ece": "expected calibration error",
    }
    found = []
    for column, name in names.items():
        values = [row[column] for row in finals if row[column] is not None]
        if values:
            found.append((name, f"{sum(values) / len(values):.4f}"))
    return found


def _belongs(card: Card) -> str:
    """Return which network the score belongs to: this one, or one with fewer labels."""
    num_labels = plural(len(card.model.indices), "label")
    if card.labels is Labels.BUDGET:
        final = next((row for row in card.choice.finals if row["repeat"] == card.repeat), None)
        if final is None:
            return (
                f"This network learnt from {num_labels}, a draw of that size (repeat "
                f"{card.repeat}) that was not scored on the test set."
            )
        return (
            f"This network learnt from the {num_labels} of repeat {card.repeat}, which reached "
            f"{_reached(final)} on the test set."
        )
    what = (
        "every label outside the test split"
        if card.labels is Labels.ALL
        else "every label there is, those of the test split included"
    )
    return (
        f"The score belongs to the budget that was measured, {card.measured}. This network learnt "
        f"from {num_labels}, {what}."
    )


def _reached(final: Mapping[str, Any]) -> str:
    """Return the score of a repeat: its accuracy, or its metric where there is none."""
    if final["test_accuracy"] is not None:
        return f"{percent(final['test_accuracy'])} %"
    return f"{metric_name(final['metric'])} {score_with_unit(final['test_score'], final['metric'])}"


def _facts(card: Card) -> list[tuple[str, object]]:
    trial, weights = card.choice.trial, card.weights
    network = sum(parameter.numel() for parameter in card.model.network.parameters())
    facts: list[tuple[str, object]] = [
        ("backbone", trial["backbone"]),
        ("pretrained weights", card.model.about.version),
        ("pretrained on", weights.pretraining or "unknown"),
        ("licence of the pretrained weights", weights.licence or "unknown"),
        ("parameters", f"{network:,}"),
        ("of them trained", f"{trial['trainable_params'] or 0:,}"),
        *card_kind(card.model.about).facts(card.model.about),
        *((f"{card.noun}s of the sweep", note) for note in card.model.notes),
    ]
    if trial["freeze_depth"] is not None:
        facts.append(("freeze depth", f"{trial['freeze_depth']:.4g}"))
    if trial["boundary"] is not None:
        facts.append(
            (
                "frozen up to",
                f"{trial['boundary']}, boundary {trial['frozen_boundaries']} of "
                f"{trial['num_boundaries']}",
            )
        )
    return facts


_ELSEWHERE = {
    *("backbone", "freeze_depth", "frozen_blocks", "label_budget", "objective"),
    *SIZES.values(),
    *("repeat", "reports", "seed", "validation"),
}
"""Keys of a spec that other sections of the card show."""


def training_section(card: Card) -> list[str]:
    """Return how a network was chosen and trained, in Markdown."""
    trial, spec = card.choice.trial, card.model.spec
    lines = [
        f"Chosen by {escaped(trial['objective'])} in validation ({escaped(trial['selection'])}) "
        f"at {card.measured}; labels that validation uses are part of a budget unless it says "
        f"otherwise. Test {card.noun}s played no part in the choice.",
        "",
    ]
    if spec is None:
        return [
            *lines,
            "Logistic regression on what reaches the backbone's head, "
            f"C = {card.model.inverse_penalty:g}, as it was measured; nothing of the backbone was "
            "trained.",
        ]
    settings = {name: value for name, value in spec.to_json().items() if name not in _ELSEWHERE}
    return [
        *lines,
        f"{_settings(card)} the one that was measured, those that the search-space file left to "
        "`auto` included: nothing was adapted to the number of labels here. "
        + _updates(card, spec),
        "",
        *table(
            ("setting", "value"),
            [
                (name, value if isinstance(value, str) else json.dumps(value))
                for name, value in sorted(settings.items())
            ],
        ),
    ]


def _updates(card: Card, spec: TrialSpec) -> str:
    if card.passes is None:
        return (
            f"The weights are those that training started from, {card.start}: `interpolation` is 0."
        )
    return (
        f"{plural(spec.steps, 'update')} of {plural(int(spec.batch_size), card.noun)} draw each "
        f"of the {plural(len(card.model.indices), f'training {card.noun}')} {card.passes:.3g} "
        "times on average."
    )


def _settings(card: Card) -> str:
    if card.collapse is None:
        return "Every setting is"
    return f"Mind: {card.collapse}. Every other setting is"


def _classes(card: Card) -> list[str]:
    names = card.model.about.class_names
    rows = [
        (number, name, count)
        for number, (name, count) in enumerate(zip(names, card.class_counts, strict=True))
    ]
    more = len(names) - _MOST_CLASSES
    return [
        *table(("output", "class", f"training {card.noun}s"), rows[:_MOST_CLASSES]),
        *(["", f"{more:,} more are in `model.json`."] if more > 0 else []),
    ]


def _provenance(card: Card) -> list[tuple[str, object]]:
    manifest, trial = card.manifest, card.choice.trial
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in card_kind(card.model.about).packages
    )
    swept = manifest.get("versions", {})
    return [
        ("sweep", manifest["sweep_id"]),
        ("trial", card.choice.trial_id),
        ("seed", trial["seed"]),
        ("repeat", card.repeat),
        ("labels", f"{card.labels.value}: {len(card.model.indices):,}"),
        ("dataset fingerprint", manifest.get("dataset_fingerprint", "unknown")),
        ("search space hash", manifest.get("space_hash", "unknown")),
        ("SHA-256 of the pretrained weights", card.weights.digest),
        ("versions here", f"Python {platform.python_version()}, {versions}"),
        ("versions of the sweep", ", ".join(f"{k} {v}" for k, v in sorted(swept.items()))),
        ("made again with", _command(card)),
    ]


def _command(card: Card) -> str:
    return shlex.join(
        [
            *("sft-sweep", "export", str(card.manifest["sweep_id"])),
            *("--trial", card.choice.trial_id, "--labels", card.labels.value),
            *("--repeat", str(card.repeat), "-o", "DIR"),
        ]
    )
