"""What stands in the way of a sweep, here or on a cluster: facts, and checks over them."""

from orchestrator.running.doctor.checks import (
    Check,
    Level,
    check_cluster,
    check_machine,
    check_store,
)
from orchestrator.running.doctor.machine import MachineFacts, Place, gather

__all__ = [
    "Check",
    "Level",
    "MachineFacts",
    "Place",
    "check_cluster",
    "check_machine",
    "check_store",
    "gather",
]
