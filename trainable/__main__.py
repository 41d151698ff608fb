"""Run one trial without a sweep: `python -m trainable spec.json images.npz`.

Prints one line of JSON per report on stdout. The exit code is 2 if a file is invalid or the trial
cannot be run, and 3 if training diverged.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from trainable.backbones import Backbone, load_weights
from trainable.data import examples_file
from trainable.errors import SpecError, TrainableError
from trainable.spec.trial_spec import TrialSpec
from trainable.training.learner import DivergedError
from trainable.training.trial import Trial


def main(arguments: list[str] | None = None) -> int:
    """Run the trial that the arguments name; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainable", description=__doc__)
    parser.add_argument("spec", type=Path, help="JSON file with a TrialSpec")
    parser.add_argument("images", type=Path, help="file of trainable.data.examples_file.save")
    given = parser.parse_args(arguments)
    try:
        spec = _read_spec(given.spec)
        images = examples_file.load(given.images)
        trial = Trial(spec, images, Backbone(load_weights(spec.backbone, task=images.task)))
        for report in trial.reports():
            print(json.dumps(asdict(report)), flush=True)
    except DivergedError as error:
        print(f"nonfinite: {error}", file=sys.stderr)
        return 3
    except TrainableError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _read_spec(path: Path) -> TrialSpec:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: got {type(data).__name__}; allowed: an object of settings")
    try:
        return TrialSpec.from_json(data)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
