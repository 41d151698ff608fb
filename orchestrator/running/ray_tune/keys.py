"""The keys of work in Tune configs and of events in Tune results.

They have a module of their own so that workers import neither the searcher nor the broker.
"""

WORK = "work"
"""Key in a Tune trial's config; its value is the JSON text of a `Work`."""

EVENT = "event"
"""Key in a Tune trial's results; its value is the JSON text of an `Event`."""
