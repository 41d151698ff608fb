"""How a model's folder says that its texts are prepared and its tokens' vectors made one.

transformers says how long a text may be, and sentence-transformers, in files beside, how vectors
are pooled, which prompt they expect and how long the texts were that it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trainable.backbones import tokenizer_files
from trainable.backbones.naming import few
from trainable.backbones.transformers_models.folder import ModelFolder
from trainable.backbones.transformers_models.silence import quiet
from trainable.backbones.weights import TextPreprocessing
from trainable.errors import BackboneError
from trainable.spec.settings import POOLINGS

DEFAULT_MAX_LENGTH = 256
"""Tokens of a text where nothing allows fewer: what most encoders of sentences were trained on."""

_MODULES = "modules.json"
_POOLING = "1_Pooling"
_MODES = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "max": "max",
    "max_tokens": "max",
    "lasttoken": "last",
}
"""By sentence-transformers' word, older or newer, our own."""

_OLD_MODE = "pooling_mode_"


def preprocessing_of(folder: ModelFolder) -> TextPreprocessing:
    """What becomes of a text before and behind the model.

    Raises:
        BackboneError: a file is damaged, or asks for a pooling that there is not.
    """
    limits = _sentence_limits(folder)
    return TextPreprocessing(
        max_length=_max_length(folder, limits),
        tokenizer=folder.tokenizer,
        pad_id=_pad_id(folder),
        pooling=_pooling(folder),
        normalize="Normalize" in _modules(folder),
        prompt=_prompt(folder),
        lowercase=bool(limits.get("do_lower_case")),
    )


def notes_of(folder: ModelFolder) -> tuple[str, ...]:
    """What of the folder's own way from text to vector is passed over."""
    left_out = [
        kind
        for kind in _modules(folder)
        if kind not in ("Transformer", "Pooling", "Normalize", "Dropout")
    ]
    notes = []
    if left_out:
        notes.append(f"passed over behind the model, as a head is trained instead: {few(left_out)}")
    if _pooling_config(folder).get("include_prompt") is False and _prompt(folder):
        notes.append("the tokens of the prompt are pooled, too, which the folder leaves out")
    return tuple(notes)


def positions_of(config: Any) -> int | None:
    """Rows of a model's table of positions, or the most that it was made for; None for any number.

    Args:
        config: as transformers has it.
    """
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def config_of(config: Mapping[str, Any]) -> Any:
    """The configuration as transformers has it.

    Raises:
        BackboneError: its values are not such that a model could be built.
    """
    from transformers import AutoConfig

    rest = {name: value for name, value in config.items() if name != "model_type"}
    try:
        with quiet():
            return AutoConfig.for_model(config["model_type"], **rest)
    except Exception as error:  # each configuration checks its values in its own way
        raise BackboneError(f"config.json: {error}") from error


def _modules(folder: ModelFolder) -> dict[str, str]:
    """Folder of each of sentence-transformers' modules by its kind; empty where there are none.

    Raises:
        BackboneError: the list is damaged.
    """
    path = folder.path / _MODULES
    if not path.is_file():
        return {}
    try:
        return {
            str(entry["type"]).rpartition(".")[2]: str(entry["path"])
            for entry in json.loads(path.read_text(encoding="utf-8"))
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BackboneError(f"{path}: damaged: {type(error).__name__}: {error}") from None


def _pooling_file(folder: ModelFolder) -> str:
    return f"{_modules(folder).get('Pooling', _POOLING)}/config.json"


def _pooling_config(folder: ModelFolder) -> dict[str, Any]:
    return folder.json(_pooling_file(folder))


def _pooling(folder: ModelFolder) -> str:
    config = _pooling_config(folder)
    if not config:
        return "last" if _is_causal(folder) else "mean"
    newer = config.get("pooling_mode", [])
    modes = [str(mode) for mode in (newer if isinstance(newer, list) else [newer])]
    modes += [
        mode.removeprefix(_OLD_MODE)
        for mode, wanted in config.items()
        if mode.startswith(_OLD_MODE) and wanted is True
    ]
    found = {_MODES.get(mode) for mode in modes}
    pooling = found.pop() if len(found) == 1 else None
    if pooling is None:
        given = " and ".join(modes) or "no pooling"
        raise BackboneError(
            f"{folder.path / _pooling_file(folder)}: got {given}; allowed: one of "
            f"{', '.join(POOLINGS)}"
        )
    return pooling


def _is_causal(folder: ModelFolder) -> bool:
    """Whether a token sees none behind it, so that only the last one has seen all.

    transformers has heads that predict the next token for such models, and none for masked tokens.
    """
    from transformers.models.auto import modeling_auto

    config = config_of(folder.config)
    if config.is_encoder_decoder:  # its encoder alone is used
        return False
    return bool(getattr(config, "is_decoder", False)) or (
        folder.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and folder.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )


def _max_length(folder: ModelFolder, limits: Mapping[str, Any]) -> int:
    given = (
        folder.json("tokenizer_config.json").get("model_max_length"),
        limits.get("max_seq_length"),
        positions_of(config_of(folder.config)),
        DEFAULT_MAX_LENGTH,
    )
    return int(min(n for n in given if isinstance(n, int | float) and n > 0))


def _sentence_limits(folder: ModelFolder) -> dict[str, Any]:
    """What sentence-transformers notes of the texts; its file is named after the model's kind."""
    files = sorted(folder.path.glob("sentence_*_config.json"))
    return folder.json(files[0].name) if files else {}


def _prompt(folder: ModelFolder) -> str:
    config = folder.json("config_sentence_transformers.json")
    default = config.get("default_prompt_name")
    prompts = config.get("prompts") or {}
    if default is None:
        return ""
    if not isinstance(prompts.get(default), str):
        raise BackboneError(
            f"{folder.path / 'config_sentence_transformers.json'}: default_prompt_name: got "
            f"{default!r}; allowed: {', '.join(prompts) or 'nothing, for there are no prompts'}"
        )
    return str(prompts[default])


def _pad_id(folder: ModelFolder) -> int:
    """The model's own token for padding; some find out from it where a text ends.

    Raises:
        BackboneError: the tokenizer is damaged.
    """
    given = config_of(folder.config).get_text_config()
    pad, vocabulary = getattr(given, "pad_token_id", None), getattr(given, "vocab_size", None)
    if isinstance(pad, int) and 0 <= pad < (vocabulary or pad + 1):
        return pad
    named = folder.json("tokenizer_config.json").get("pad_token")
    text = named.get("content") if isinstance(named, dict) else named
    if isinstance(text, str):
        found = tokenizer_files.read_tokenizer(folder.read_tokenizer()).token_to_id(text)
        if found is not None:
            return int(found)
    return 0  # the mask hides it
