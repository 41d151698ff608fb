"""The weights of torchvision's models: their names, their files, and what these hold."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model_builder
from torchvision.models import get_model_weights as weights_of

from trainable.backbones.files import is_original, named_hash, read_tensors, to_array
from trainable.backbones.unwrapping import Unwrapped
from trainable.backbones.weights import (
    RANDOM,
    Arrays,
    BackboneInfo,
    Preprocessing,
    Weights,
    digest_of,
)
from trainable.errors import BackboneError
from trainable.spec.weight_paths import is_path


def problem(name: str, wanted: str) -> str | None:
    """Return the problem with the requested weights, or None; no weights are read."""
    if not wanted or wanted == RANDOM or is_path(wanted):
        return None
    versions = [member.name for member in weights_of(name)]
    if wanted in (*versions, "DEFAULT"):
        return None
    return (
        f"unknown weights of {name}; allowed: {', '.join(versions)}, {RANDOM}, or a file, with a "
        "suffix or its folder in its name"
    )


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Weights of one of torchvision's models, and what is known of them; see `Weights`."""

    arrays: Arrays
    version: str
    licence: str | None = None
    pretraining: str | None = None
    notes: tuple[str, ...] = ()

    def weights(
        self,
        source: str,
        architecture: str,
        backbone: str,
        preprocessing: Preprocessing,
        **about: Any,
    ) -> Weights:
        """Return the weights of a backbone.

        Args:
            source: name of the source that builds it.
            architecture: torchvision's name.
            backbone: `NAME[@WEIGHTS]` as the user wrote it.
            preprocessing: from an image to what it was trained on.
            about: further attributes.
        """
        return Weights(
            backbone=backbone,
            source=source,
            architecture=architecture,
            version=self.version,
            preprocessing=preprocessing,
            arrays=self.arrays,
            digest=digest_of(self.arrays),
            licence=self.licence,
            pretraining=self.pretraining,
            notes=self.notes,
            **about,
        )


def load_named(
    name: str,
    wanted: str,
    *,
    random: Callable[[], Arrays],
    unwrapped: Callable[[], Unwrapped],
) -> Loaded:
    """Load random weights, those of a file, or torchvision's.

    Args:
        name: of the model.
        wanted: the requested weights; see `problem`.
        random: makes random ones.
        unwrapped: reads those of the file that `wanted` names.

    Raises:
        BackboneError: a file is missing, damaged or unsafe.
    """
    if wanted == RANDOM:
        return Loaded(arrays=random(), version=RANDOM)
    if is_path(wanted):
        found = unwrapped()
        return Loaded(arrays=found.arrays, version=wanted, notes=found.notes)
    member = member_of(name, wanted)
    path = fetch(name, member)
    return Loaded(
        arrays=pretrained(name, member, path),
        version=member.name if is_original(path) else f"{member.name} (own file)",
        licence=member.meta.get("license"),
        pretraining=pretraining(member),
    )


def described(name: str, source: str, *, input_size: int, **about: Any) -> BackboneInfo:
    """Return torchvision's metadata of the default weights.

    Args:
        name: of the model.
        source: name of the source that builds it.
        input_size: side of its images, in pixels.
        about: further attributes.
    """
    member = member_of(name, "")
    return BackboneInfo(
        name=name,
        source=source,
        version=member.name,
        num_params=int(member.meta["num_params"]),
        input_size=input_size,
        cached=cache_path(member).is_file(),
        licence=member.meta.get("license"),
        pretraining=pretraining(member),
        **about,
    )


def preset_of(name: str, wanted: str) -> Any:
    """Return the transforms that belong to weights; those of the default ones for others."""
    return member_of(name, "" if wanted == RANDOM or is_path(wanted) else wanted).transforms()


def member_of(name: str, wanted: str) -> WeightsEnum:
    """Return torchvision's entry of the requested weights; the default ones for an empty text."""
    enum = weights_of(name)
    return enum.DEFAULT if wanted in ("", "DEFAULT") else enum[wanted]


def pretrained(name: str, member: WeightsEnum, path: Path) -> Arrays:
    """Return the state dict as torchvision loads it, with names of former versions translated.

    torchvision would unpickle the file without restrictions, which can run code. So the file is
    read here by the restricted reader, and torchvision gets its tensors.

    Raises:
        BackboneError: the file is damaged, or does not fit.
    """
    state = read_tensors(path)
    try:
        with _handing_out(state):
            model: nn.Module = get_model_builder(name)(weights=member, progress=False)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BackboneError(f"{path}: does not fit {name}: {error}") from error
    return {key: to_array(tensor) for key, tensor in sorted(model.state_dict().items())}


@contextlib.contextmanager
def _handing_out(state: dict[str, torch.Tensor]) -> Iterator[None]:
    """Make torchvision's builders use this state dict instead of opening a file."""

    def found(member: WeightsEnum, *args: object, **options: object) -> dict[str, torch.Tensor]:
        del member, args, options
        return state

    own = WeightsEnum.get_state_dict
    WeightsEnum.get_state_dict = found
    try:
        yield
    finally:
        WeightsEnum.get_state_dict = own


def pretraining(member: WeightsEnum) -> str | None:
    """Return the data sets that torchvision reports scores on, as a proxy for the training data."""
    return ", ".join(member.meta.get("_metrics", {})) or None


def cache_path(member: WeightsEnum) -> Path:
    """Return the path in torch's hub cache, whether or not the file is there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(member.url).path).name


def reachable(*, timeout_s: float) -> bool:
    """Return whether the server of missing weights answers, or a proxy is configured for it.

    Args:
        timeout_s: timeout in seconds.
    """
    url = urlparse(member_of("resnet18", "").url)
    if url.scheme in getproxies():
        return True
    try:
        socket.create_connection((str(url.hostname), 443), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def fetch(name: str, member: WeightsEnum) -> Path:
    """Return the file in torch's hub cache; download it if it is missing.

    Raises:
        BackboneError: it is missing, and cannot be fetched.
    """
    path = cache_path(member)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                member.url, str(path), hash_prefix=named_hash(path), progress=False
            )
        except (URLError, OSError, RuntimeError) as error:
            raise BackboneError(
                f"{name}@{member.name}: the weights are not on this machine and cannot be fetched "
                f"({error}). Put the file {path.name} into {path.parent}"
            ) from error
    return path
