"""Optuna's private names: the one module that uses them, tried with Optuna 5.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult

__all__ = ["JournalOperation", "JournalStorageReplayResult", "begun_trial", "stored_attributes"]


def stored_attributes(study: optuna.Study) -> Mapping[str, Any]:
    """A study's user attributes as they are stored; not to be changed.

    `Study.user_attrs` copies them deeply, the names of all test images and the predictions for them
    included, which is too much to do twice a second.
    """
    return study._storage.get_study_user_attrs(study._study_id)


def begun_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """A trial that was asked for before, to be reported to again.

    Optuna hands out such trials by `Study.ask` alone, which begins new ones.
    """
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
