"""Weight files of timm's models in the cache of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainable.errors import BackboneError


def cached(config: Any) -> Path | None:
    """Return the weight file in the hub's cache, or None.

    Args:
        config: timm's pretrained configuration.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _repository(config)
    for file in _files(config) if repository else []:
        found = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch(name: str, config: Any) -> Path:
    """Return the weight file in the hub's cache; download it if it is missing.

    Args:
        name: name of the backbone, for messages.
        config: timm's pretrained configuration.

    Raises:
        BackboneError: it is not there and cannot be fetched; the message says what to do.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    there = cached(config)
    if there is not None:
        return there
    repository, revision = _repository(config)
    reason: Exception | None = None
    for file in _files(config) if repository else []:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError as error:  # no network: the next file would fail, too
            reason = error
            break
        except EntryNotFoundError as error:
            reason = error
        except Exception as error:  # the hub's client raises those of its HTTP library, too
            reason = error
            break
    raise BackboneError(
        f"{name}: the weights are not on this machine and cannot be fetched ({reason}). Fetch "
        f"{' or '.join(_files(config))} of {repository or config.url} where there is a network, "
        f"and write {name}@FILE"
    ) from reason


def _files(config: Any) -> list[str]:
    """Return names of files on the hub that may have these weights, the safer format first."""
    named = config.hf_hub_filename
    if named is None:
        return ["model.safetensors", "pytorch_model.bin"]
    if named.startswith("open_clip_pytorch_model"):
        return ["open_clip_model.safetensors", named]
    return [named]


def _repository(config: Any) -> tuple[str, str | None]:
    repository, _, revision = str(config.hf_hub_id or "").partition("@")
    return repository, revision or None
