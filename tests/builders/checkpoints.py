"""Checkpoints of a training, as files."""

from collections.abc import Callable

from trainable.training.checkpoint import Checkpoint


class Keeper:
    """Stores a checkpoint after every update, as files."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytes]] = []

    def __call__(self, state: Callable[[], Checkpoint]) -> None:
        self.files.append(state().to_files())

    def checkpoints(self) -> list[Checkpoint]:
        return [Checkpoint.from_files(*files) for files in self.files]
