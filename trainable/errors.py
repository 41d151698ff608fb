"""The exceptions of `trainable`. Messages say where, what was given, and what is allowed.

The whole message is the only argument of each exception, so that exceptions survive pickling on
their way through Ray.
"""


class TrainableError(Exception):
    """Base class of all refusals of `trainable`; the message is meant for the user."""


class SpecError(TrainableError):
    """A trial cannot be run with its configuration."""


class DataError(TrainableError):
    """Labelled examples are damaged, or do not suffice for a computation."""


class CacheError(TrainableError):
    """The folder of the feature cache cannot be used."""


class ExportError(TrainableError):
    """A trained network cannot be exported, or an exported network cannot be read."""


class PluginError(TrainableError):
    """An entry of another package cannot be used, or is not installed on this machine."""


class BackboneError(TrainableError):
    """A backbone is unknown, its weights are missing or wrong, or it cannot be cut."""


class CheckpointError(TrainableError):
    """A checkpoint is damaged, or belongs to another training than the one to resume."""


class GpuMemoryError(TrainableError):
    """The GPU's memory is too small for work that cannot be cut into smaller micro-batches."""
