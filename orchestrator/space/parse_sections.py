"""Sections as the file gives them -> models; problems are added to those of the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import ValidationError

from orchestrator.methods import WITHOUT_BACKBONE, WITHOUT_BACKBONE_METHODS, Method
from orchestrator.space.kinds import AnySection, one_of
from orchestrator.space.problems import Problems, unknown
from orchestrator.space.section import Section
from trainable.errors import SpecError
from trainable.spec.augmentation import Augmentation
from trainable.spec.refusals import KeyPath, refusal, shown, unknown_key
from trainable.spec.setting import Setting, Value
from trainable.spec.settings import DEFAULTS, SETTINGS
from trainable.spec.validation import Validation

BASELINES = (*(one for one in Method if one in WITHOUT_BACKBONE_METHODS), Method.PROBE)
_Parsed = TypeVar("_Parsed")

_PLAIN_LINE = re.compile(r"\w+(?P<keys>(\.\w+)*): (?P<text>.*)")


def read_section(
    model: type[AnySection], path: KeyPath, given: object, problems: Problems
) -> AnySection:
    """Read a section; missing and invalid values become defaults."""
    values = _mapping(path, given, problems, example=_example(model))
    return _validated(model, path, values, problems, kinds={})


def read_kind(
    kinds: Mapping[str, type[AnySection]],
    path: KeyPath,
    given: object,
    problems: Problems,
    *,
    tag: str,
    default: str,
    required: bool = False,
) -> AnySection:
    """Read a section of the kind that its key `tag` names; an invalid kind becomes the default.

    Args:
        kinds: model by name of the kind.
        path: key path of the section.
        given: value in the file.
        problems: problems found are added here.
        tag: key that names the kind.
        default: kind if the file names none.
        required: whether the file must name the kind.
    """
    example = f"{{{tag}: {default}}}"
    found = len(problems)
    values = _mapping(path, given, problems, example=example)
    if len(problems) > found:
        return kinds[default]()
    known = one_of(kinds)
    if tag not in values and required:
        problems.add((*path, tag), f"missing; allowed: {known}")
        return kinds[default]()
    word = values.get(tag, default)
    if not isinstance(word, str) or word not in kinds:
        problems.add((*path, tag), refusal(word, known, kinds))
        return kinds[default]()
    return _validated(kinds[word], path, {**values, tag: word}, problems, kinds=kinds)


def read_validation(path: KeyPath, given: object, problems: Problems) -> Validation:
    """Read how the budget pays for validation; the default if missing or invalid."""
    return _parsed(Validation.parse, path, given, problems) or Validation()


def read_training(
    path: KeyPath, given: object, problems: Problems, *, homes: Callable[[], Mapping[str, str]]
) -> dict[str, Value]:
    """Read all training settings; missing and invalid ones become defaults."""
    training = dict(DEFAULTS)
    values = _mapping(path, given, problems, example="{steps: 100}")
    for name, value in values.items():
        if name not in SETTINGS:
            problems.add((*path, name), unknown("key", name, SETTINGS, homes()))
            continue
        setting = SETTINGS[name]
        problem = setting.problem(value)
        if isinstance(value, list | Mapping):
            problem = f"got {shown(value)}; one value here; to vary it, use search.{name}"
        if problem is not None:
            problems.add((*path, name), problem)
            continue
        assert isinstance(value, int | float | str)
        training[name] = setting.canonical(value)
    return training


def read_augment(path: KeyPath, given: object, problems: Problems) -> Augmentation | None:
    """Read the random views of training images; None if missing or invalid."""
    return _parsed(Augmentation.parse, path, given, problems)


def default_baselines(task: str, modality: str) -> tuple[Method, ...]:
    """Return the baselines of a sweep over one kind of example where the file names none.

    Their order is that of `BASELINES`, in which a file that names them is read.
    """
    known = {*WITHOUT_BACKBONE[task, modality], Method.PROBE}
    return tuple(name for name in BASELINES if name in known)


def read_baselines(
    path: KeyPath, given: object, problems: Problems, *, task: str, modality: str | None
) -> tuple[Method, ...]:
    """Read the baselines, and return them in the order of `BASELINES`.

    Args:
        path: of the section.
        given: its content; None for the default.
        problems: takes what is wrong.
        task: what the labels are.
        modality: kind of the sweep's examples, `image` or `text`; None allows every baseline.
    """
    default = default_baselines(task, modality or "image")
    choice = BASELINES if modality is None else default
    if given is None:
        return default
    allowed = f"a list of {', '.join(choice)}, or [] to have no baselines"
    if not isinstance(given, list):
        problems.add(path, refusal(given, allowed))
        return default
    wanted: list[Method] = []
    for item in given:
        if item not in choice:
            problems.add(path, refusal(item, allowed, choice))
        elif item in wanted:
            problems.add(path, f"got {shown(item)} twice; allowed: distinct baselines")
        else:
            wanted.append(Method(item))
    return tuple(name for name in BASELINES if name in wanted)


def _parsed(
    parse: Callable[[object], _Parsed], path: KeyPath, given: object, problems: Problems
) -> _Parsed | None:
    """Return the result of a trial spec's parser; None if the section is missing or invalid."""
    if given is None:
        return None
    try:
        return parse(given)
    except SpecError as error:
        for line in str(error).splitlines():
            plain = _PLAIN_LINE.fullmatch(line)
            if plain is None:  # its key is quoted
                problems.add(path, line.partition(".")[2])
            else:
                problems.add((*path, *plain["keys"].split(".")[1:]), plain["text"])
        return None


def _mapping(
    path: KeyPath, given: object, problems: Problems, *, example: str
) -> Mapping[str, object]:
    if isinstance(given, Mapping):
        return given
    if given is not None:
        problems.add(path, refusal(given, f"a mapping such as {example}"))
    return {}


def _example(model: type[Section]) -> str:
    name, field = next(iter(model.model_fields.items()))
    setting = model.setting(name)
    value = field.default if field.default is not None else setting.low or 1
    return f"{{{name}: {value}}}"


def _refusal(value: object, setting: Setting) -> str:
    quotes = setting.text is not None and isinstance(value, int | float)
    hint = "; text that looks like a number needs quotes" if quotes else ""
    return refusal(value, setting.allowed + hint, setting.words)


def _validated(
    model: type[AnySection],
    path: KeyPath,
    values: Mapping[str, object],
    problems: Problems,
    *,
    kinds: Mapping[str, type[Section]],
) -> AnySection:
    """Return the model's instance, or its defaults with our messages for pydantic's errors.

    If a required key is missing, the incomplete instance is never used: reading ends in the error.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for key in dict.fromkeys(str(found["loc"][0]) for found in error.errors()):
            if key in model.model_fields and key not in values:
                problems.add((*path, key), f"missing; allowed: {model.setting(key).allowed}")
            elif key in model.model_fields:
                problems.add((*path, key), _refusal(values[key], model.setting(key)))
            elif owners := [kind for kind in kinds if key in kinds[kind].model_fields]:
                problems.add(
                    (*path, key),
                    f"belongs to {', '.join(owners)}; keys here: {', '.join(model.model_fields)}",
                )
            else:
                problems.add((*path, key), unknown_key(key, model.model_fields))
        return model.model_construct()
