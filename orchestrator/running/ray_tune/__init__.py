"""Ray Tune on one side, the study broker on the other: the only code that imports ray."""

from orchestrator.running.cluster import home

home()  # before any module here imports Ray, which ends with a traceback where there is none
