"""Cost of selection by validation on few labels, and good trials that the default pruner stops.

    python tests/benchmarks/selection.py [--labels 2 5 10 20] [--draws 0 1] [--out FILE] [--quick]
    python tests/benchmarks/selection.py --read FILE...

The program samples configurations of `search_spaces/lowdata.yaml` at random and trains them on the
embedded digits without pruning, one after another in one thread, which takes 12 minutes of
processor time per draw. Every configuration is validated and refitted on each draw of labels; the
mean over the refits is its test accuracy. `--read` joins the files of several runs. It prints one
table:

- choice costs: test accuracy of the best configuration minus that of the configuration with the
    best
  validation score, in points, mean over draws; next to it the same for a configuration chosen at
  random.
- rank correlation: Spearman's correlation of validation and test accuracy, mean over draws; next to
  it the same among the configurations of one backbone, mean over backbones. The latter is harder,
  because one of the two backbones is untrained and easy to tell apart.
- stopped: how often the pruner stops a trial that would have ranked among the first three, or
    first,
  by its last validation score. The recorded reports are replayed through an Optuna study in random
  orders, one trial at a time.
- updates saved: fraction of updates that pruning saves.

A configuration that diverges ranks last in validation and counts as wrong on every test image.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.samplers import RandomSampler
from scipy.stats import spearmanr

from orchestrator.datasets import digits
from orchestrator.planning.inputs import backbones
from orchestrator.running.broker.pruners import make_pruner
from orchestrator.running.broker.samplers import make_sampler, suggest
from orchestrator.space import SearchSpace, load_space
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.learner import DivergedError
from trainable.training.trial import Trial

SPACE = Path(__file__).parents[2] / "search_spaces" / "lowdata.yaml"
TOP = 3
METRICS = (Metric.ACCURACY, Metric.LOG_LOSS)


@dataclass(frozen=True)
class Outcome:
    """One configuration on one draw of labels.

    Attributes:
        accuracy: validation accuracy at each report, the start included; a configuration that
            diverged has fewer reports.
        log_loss: validation log loss at each report.
        test_accuracy: test accuracy of a refit on the whole budget.
    """

    accuracy: Sequence[float]
    log_loss: Sequence[float]
    test_accuracy: float

    def curve(self, metric: Metric) -> Sequence[float]:
        """Objective values at all reports, as a pruner sees them."""
        return self.accuracy if metric is Metric.ACCURACY else self.log_loss

    def order(self, metric: Metric, *, reports: int) -> tuple[float, float]:
        """Sort key that puts the best first, as a sweep does; the lower loss breaks ties."""
        if len(self.log_loss) <= reports:
            return float("inf"), float("inf")
        loss = self.log_loss[-1]
        return (-self.accuracy[-1] if metric is Metric.ACCURACY else loss), loss


Draws = Sequence[Sequence[Outcome]]
"""Outcomes of all configurations for every draw of labels, always in the same order."""


def sampled(space: SearchSpace, *, labels: int, count: int) -> list[TrialSpec]:
    """The first configurations that a random sweep asks for."""
    study = optuna.create_study()
    specs = []
    for number in range(count):
        study.sampler = make_sampler(space, study="selection", number=number)
        specs.append(space.spec(suggest(space, study.ask()), LabelBudget(labels)))
    return specs


def outcome(spec: TrialSpec, images: LabelledExamples, backbone: Backbone) -> Outcome:
    """Validate and refit one configuration on the draw that its repeat names."""
    device = torch.device("cpu")
    reports = []
    try:
        trial = Trial(spec, images, backbone, device=device)
        for report in trial.reports():
            reports.append(report)  # noqa: PERF402  (those before a divergence are kept)
        kept = replace(trial.facts().spec, interpolation=reports[-1].interpolation)
        test = Trial(kept, images, backbone, device=device).refit().scores.objective(spec.objective)
    except DivergedError:
        test = 0.0
    return Outcome([r.val_objective for r in reports], [r.val_loss for r in reports], test)


def replayed(
    curves: Sequence[Sequence[float]], space: SearchSpace, *, maximize: bool, order: Sequence[int]
) -> dict[int, int]:
    """Trials that the pruner stops if they run in this order, with the report that each stops at.

    As in a sweep, a trial is never stopped at its last report.
    """
    reports = int(space.training["reports"])
    study = optuna.create_study(
        direction="maximize" if maximize else "minimize",
        pruner=make_pruner(space, reports=reports),
        sampler=RandomSampler(seed=0),
    )
    stopped: dict[int, int] = {}
    for index in order:
        trial = study.ask()
        for number, value in enumerate(curves[index]):
            trial.report(value, step=number)
            if number < reports and trial.should_prune():
                stopped[index] = number
                break
        if index in stopped or len(curves[index]) <= reports:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, curves[index][-1])
    return stopped


def row(
    labels: int, draws: Draws, metric: Metric, space: SearchSpace, *, num_replays: int
) -> list[str]:
    """The table's cells for one budget and one objective."""
    reports = int(space.training["reports"])
    tests = np.mean([[each.test_accuracy for each in draw] for draw in draws], axis=0)
    names = np.array([s.backbone for s in sampled(space, labels=labels, count=len(draws[0]))])
    costs, correlations, within, top_stopped, best_stopped, saved = [], [], [], [], [], []
    rng = np.random.default_rng(0)
    for draw in draws:
        keys = [each.order(metric, reports=reports) for each in draw]
        ranked = sorted(range(len(draw)), key=keys.__getitem__)
        costs.append(tests.max() - tests[ranked[0]])
        scores = np.array([-key[0] for key in keys])
        correlations.append(spearmanr(scores, tests).statistic)
        for name in np.unique(names):
            same = names == name
            within.append(spearmanr(scores[same], tests[same]).statistic)
        curves = [each.curve(metric) for each in draw]
        for _ in range(num_replays):
            order = [int(index) for index in rng.permutation(len(draw))]
            stopped = replayed(curves, space, maximize=metric.maximize, order=order)
            top_stopped += [index in stopped for index in ranked[:TOP]]
            best_stopped.append(ranked[0] in stopped)
            skipped = sum(reports - number for number in stopped.values())
            saved.append(skipped / (reports * len(draw)))
    return [
        str(labels),
        metric.value,
        str(len(draws)),
        f"{100 * np.mean(costs):.1f}",
        f"{100 * (tests.max() - tests.mean()):.1f}",
        f"{np.mean(correlations):.2f}",
        f"{np.mean(within):.2f}",
        *(f"{100 * np.mean(each):.0f} %" for each in (top_stopped, best_stopped, saved)),
    ]


def measured(space: SearchSpace, *, labels: int, repeats: Sequence[int]) -> Draws:
    """Train every configuration on these draws of one budget."""
    images = digits.load(test=None, seed=space.seed)
    built = {name: Backbone(load_weights(name)) for name in backbones(space)}
    specs = sampled(space, labels=labels, count=space.trials)
    return [
        [outcome(replace(spec, repeat=repeat), images, built[spec.backbone]) for spec in specs]
        for repeat in repeats
    ]


def recorded(paths: Sequence[Path]) -> dict[int, Draws]:
    """Outcomes in the files of earlier runs, by labels per class; draws of all files are joined."""
    found: dict[int, list[list[Outcome]]] = {}
    for path in paths:
        for labels, draws in json.loads(path.read_text()).items():
            joined = found.setdefault(int(labels), [])
            joined += [[Outcome(**each) for each in draw] for draw in draws]
    return dict(sorted(found.items()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1], help="numbers of draws")
    parser.add_argument("--out", type=Path, help="JSON file for the outcomes")
    parser.add_argument("--read", type=Path, nargs="+", help="use the outcomes in these files")
    parser.add_argument("--quick", action="store_true", help="2 labels, 8 short trials, 1 draw")
    given = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    overrides = ["sampler={name: random}"]
    budgets, repeats, num_replays = given.labels, given.draws, 100
    if given.quick:
        overrides += ["trials=8", "training.steps=10"]
        budgets, repeats, num_replays = [2], [0], 5
    space = load_space(SPACE, overrides)
    known = recorded(given.read or [])
    print(
        "| labels | by | draws | choice costs | blind choice | rank correlation | in a backbone "
        "| top three stopped | best stopped | updates saved |"
    )
    print("| ---: | --- |" + " ---: |" * 8, flush=True)
    for labels in known or budgets:
        if not given.read:
            known[labels] = measured(space, labels=labels, repeats=repeats)
        for metric in METRICS:
            cells = row(labels, known[labels], metric, space, num_replays=num_replays)
            print("| " + " | ".join(cells) + " |", flush=True)
    if given.out:
        outcomes = {
            labels: [[asdict(each) for each in draw] for draw in draws]
            for labels, draws in known.items()
        }
        given.out.write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main()
