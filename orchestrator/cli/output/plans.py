"""The output of `launch --dry-run` and `validate`: the plan of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.planning.preparation import Prepared
    from orchestrator.space import SearchSpace
    from trainable.backbones.weights import TextPreprocessing, Weights


MOST_CLASSES = 10
"""Class names printed on one line."""


def check_room(space: SearchSpace, path: Path, address: str | None) -> None:
    """Check that a trial fits on this machine or, if an address is given, on that cluster.

    Args:
        space: the search space.
        path: path of its file, for messages.
        address: address of the cluster; None or `local` for this machine.

    Raises:
        SpaceError: a trial does not fit on this machine.
        StorageError: a trial does not fit on the cluster, the cluster is unavailable, or Ray cannot
            start here.
    """
    if address in (None, "local"):
        from orchestrator.planning.resources import problems_here
        from orchestrator.running.cluster import check_sessions
        from orchestrator.space.problems import space_error

        problems = problems_here(space.resources)
        if problems:
            raise space_error(str(path), *problems)
        check_sessions()
        return
    from orchestrator.running.ray_tune.capacity import check_room as check_room_of_cluster
    from orchestrator.running.ray_tune.cluster import cluster

    with cluster(str(address)):
        check_room_of_cluster(space.resources)


def class_line(names: Sequence[str]) -> str:
    """The number of classes and the quoted names of the first `MOST_CLASSES`."""
    from orchestrator.datasets.name_keys import escaped

    return f"classes: {len(names):,}: {escaped(names, most=MOST_CLASSES)}"


def _text_line(name: str, weights: Weights, how: TextPreprocessing) -> str:
    """What a backbone of texts is, and how its folder says that it reads them."""
    params = sum(array.size for array in weights.arrays.values() if array.dtype.kind == "f")
    prompt = f"prompt {how.prompt!r}" if how.prompt else "no prompt"
    return (
        f"{name}: {params:,} parameters, licence {weights.licence or 'unknown'}; by itself at most "
        f"{how.max_length} tokens, pooling {how.pooling}, {prompt}"
    )


def show(prepared: Prepared, *, as_json: bool) -> None:
    """Print the plan on stdout.

    Args:
        prepared: the prepared sweep.
        as_json: print one JSON object instead of a table.
    """
    from rich.table import Table

    from orchestrator.cli.output.render import print_rich
    from orchestrator.planning.cache_plan import lines_of
    from orchestrator.planning.inputs import backbones
    from orchestrator.recording.user_attributes import budget_unit, budget_unit_of
    from orchestrator.space import short_names
    from orchestrator.text import plural
    from trainable.backbones.weights import TextPreprocessing

    plan, space = prepared.plan, prepared.space
    num_finals = space.finalists.count * space.finalists.repeats
    studies = [
        {
            "study": study.name,
            "label_budget": study.labels_per_class,
            "labels_used": study.labels_used,
            "folds": study.folds,
            "trials": study.trials,
            "fresh_draws": study.fresh,
            "finals": num_finals,
            "baselines": sum(baseline.study == study.name for baseline in plan.baselines),
            "most_baselines": study.most_baselines,
        }
        for study in plan.studies
    ]
    if as_json:
        print(
            json.dumps(
                {
                    "name": space.name,
                    "backbones": backbones(space),
                    "varies": list(space.varies),
                    "objective": space.objective.value,
                    "studies": studies,
                    "num_test": plan.num_test,
                    "classes": list(prepared.images.class_names),
                    "most_updates": plan.most_updates,
                    "cache": {"mode": space.cache, "kept": [asdict(one) for one in prepared.kept]},
                    "space_hash": space.fingerprint(),
                    "dataset_fingerprint": prepared.images.fingerprint(),
                }
            )
        )
        return
    about = {
        "budget_unit": budget_unit_of(prepared.images),
        "modality": prepared.images.modality,
    }
    table = Table(
        *("study", budget_unit(about), "labels", "folds", "trials", "finals", "baselines")
    )
    for row in studies:
        shown = (row[name] for name in row if name not in {"fresh_draws", "most_baselines"})
        table.add_row(*(f"{v:g}" if isinstance(v, float) else str(v) for v in shown))
    print_rich(table)
    stale = [study.name for study in plan.studies if not study.fresh]
    if stale:
        print(
            f"{', '.join(stale)}: the pool holds no other labels to draw, so that repeats vary the "
            "training seed alone"
        )
    if any(row["baselines"] != row["most_baselines"] for row in studies):
        print(
            "of a range of image sizes the ends have a probe each; one follows at the size of each "
            "finalist that has none yet"
        )
    print(class_line(prepared.images.class_names))
    names = short_names(backbones(space))
    print(f"backbones: {', '.join(names.values())}")
    for name, weights in prepared.weights.items():
        if isinstance(weights.preprocessing, TextPreprocessing):
            print(_text_line(names[name], weights, weights.preprocessing))
    tested = plural(plan.num_test, f"test {space.modality}")
    print(f"axes: {', '.join(space.varies) or 'none'}; {tested}")
    print(f"objective: {space.objective.value}")
    for line in lines_of(prepared.kept):
        print(line)
    there = f"the {space.modality}s and weights are there"
    print(f"at most {plan.most_updates:,} updates; {there}")
