"""Sweeps in object stores: a local directory that is copied to the store and fetched from it.

Object stores can neither append to a journal nor lock it. So a sweep always runs in a directory of
this machine, and with a URL as `--out` that directory is mirrored.
"""

from orchestrator.recording.stores.fetching import (
    check_no_driver,
    home_of,
    names_in,
    pull,
    work_folder,
)
from orchestrator.recording.stores.mirror import Mirror, mirrored
from orchestrator.recording.stores.objects import check_store
from orchestrator.recording.stores.places import Place, locate

__all__ = [
    "Mirror",
    "Place",
    "check_no_driver",
    "check_store",
    "home_of",
    "locate",
    "mirrored",
    "names_in",
    "pull",
    "work_folder",
]
