"""Under which keys Tune carries work to a process, and its events back.

Apart from those who write and read them: the processes of trials need neither searcher nor broker.
"""

WORK = "work"
"""Of a Tune trial's config; holds the JSON text of a `Work`."""

EVENT = "event"
"""Of a Tune trial's results; holds the JSON text of an `Event`."""
