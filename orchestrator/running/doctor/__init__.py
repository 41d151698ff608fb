"""Checks of a machine, a store or a cluster before a sweep: facts, then checks over them."""

from orchestrator.running.doctor.checks import (
    Check,
    Level,
    check_cluster,
    check_machine,
    check_store,
)
from orchestrator.running.doctor.machine import MachineFacts, Place, TextFacts, gather

__all__ = [
    "Check",
    "Level",
    "MachineFacts",
    "Place",
    "TextFacts",
    "check_cluster",
    "check_machine",
    "check_store",
    "gather",
]
