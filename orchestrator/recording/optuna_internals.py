"""Private names of Optuna; the only module that uses them, tested with Optuna 5.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult

__all__ = ["JournalOperation", "JournalStorageReplayResult", "begun_trial", "stored_attributes"]


def stored_attributes(study: optuna.Study) -> Mapping[str, Any]:
    """Return a study's user attributes as they are stored; do not modify them.

    `Study.user_attrs` makes a deep copy, including the names of all test images and their
    predictions, which is too slow to do twice a second.
    """
    return study._storage.get_study_user_attrs(study._study_id)


def begun_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """Return an existing trial as an object that accepts reports.

    Optuna's public API returns such objects only from `Study.ask`, which begins a new trial.
    """
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
