"""The connection between Ray Tune and the broker: the only code that imports ray."""

from orchestrator.running.cluster import home

home()  # importing Ray without a home ends in a traceback; this raises a StorageError
