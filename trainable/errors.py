"""The exceptions of `trainable`: each says where, what was given, what is allowed.

All of them carry their whole message as the single argument, so that they survive pickling on
their way through Ray.
"""


class TrainableError(Exception):
    """Anything that `trainable` refuses; the message is meant for the user."""


class SpecError(TrainableError):
    """A trial's configuration is not one that can be run."""


class DataError(TrainableError):
    """The labelled images cannot serve the purpose they were given for."""


class CacheError(TrainableError):
    """The folder of stored features cannot be used."""


class ExportError(TrainableError):
    """A trained network cannot be written for use elsewhere, or what was written be read."""


class PluginError(TrainableError):
    """What another package adds cannot be used, or is not installed on this machine."""


class BackboneError(TrainableError):
    """A backbone is unknown, its weights are missing or wrong, or it cannot be cut."""


class CheckpointError(TrainableError):
    """A checkpoint is damaged, or of something else than what is to go on from it."""


class GpuMemoryError(TrainableError):
    """The GPU's memory does not hold what cannot be cut into smaller pieces."""
