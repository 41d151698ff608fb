"""Models of the Hugging Face hub: their cache on this machine, and how they get there."""

from __future__ import annotations

import re
from pathlib import Path

from trainable.backbones import tokenizer_files
from trainable.backbones.naming import shortened
from trainable.backbones.transformers_models.folder import (
    CONFIG,
    WEIGHTS,
    WHOLE,
    conversion,
    has_weights,
)
from trainable.errors import BackboneError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_DESCRIPTION = (
    CONFIG,
    "*/config.json",
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    tokenizer_files.NAME,
    "tokenizer_config.json",
    "README.md",
)
_NEEDED = (CONFIG, tokenizer_files.NAME)
_FOLDER_PREFIX = "models--"


def is_repository(place: str) -> bool:
    """Whether a text could be the name of a model on the hub: `ORG/NAME` or `NAME`."""
    return _REPOSITORY.fullmatch(place) is not None


def cached_repositories() -> list[str]:
    """Names of the models in the cache that have what a text backbone needs beside weights."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    found = sorted(
        path.name.removeprefix(_FOLDER_PREFIX).replace("--", "/")
        for path in folder.glob(f"{_FOLDER_PREFIX}*")
    )
    return [name for name in found if cached(name) is not None]


def snapshot(repository: str, *, weights: bool) -> Path:
    """The folder of a model in the cache, fetched into it where it is missing.

    What is in the cache is taken as it is: nobody's update changes a sweep unasked.

    Args:
        repository: `ORG/NAME`.
        weights: whether its weights are needed, too.

    Raises:
        BackboneError: it is not there and cannot be fetched; the message says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    there = cached(repository)
    if there is not None and (has_weights(there) or not weights):
        return there
    patterns = [*_DESCRIPTION, *(WEIGHTS if weights else ())]
    try:
        found = Path(snapshot_download(repository, allow_patterns=patterns))
    except GatedRepoError:
        raise BackboneError(
            f"{repository} asks for an account on the hub: accept its terms at "
            f"https://huggingface.co/{repository} and run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise BackboneError(
            f"{repository} is neither a folder here nor a model of the Hugging Face hub that is "
            "open to all; check the spelling, or run: hf auth login"
        ) from None
    except Exception as error:  # the hub's client raises those of its HTTP library, too
        reason = shortened(str(error).partition("\n")[0] or type(error).__name__)
        raise BackboneError(
            f"{repository} is not on this machine and cannot be fetched ({reason}). Run "
            f"`hf download {repository} --local-dir FOLDER` where there is a network, and write "
            "transformers:FOLDER"
        ) from error
    if weights and not has_weights(found):  # what the cache has is given where there is no network
        raise BackboneError(
            f"{repository}: its weights are not on this machine, and cannot be fetched: either the "
            f"Hugging Face hub cannot be reached, or it has no {WHOLE} of it. Pickles are not "
            f"read; convert them once, if you trust them: {conversion(repository, 'FOLDER')}"
        )
    return found


def cached(repository: str) -> Path | None:
    """The folder of a model in the cache, if what describes it is there."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repository, file) for file in _NEEDED]
    files = [Path(file) for file in found if isinstance(file, str)]
    return files[0].parent if len(files) == len(_NEEDED) else None
