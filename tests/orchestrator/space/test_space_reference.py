"""The keys that the documentation lists against what the reader takes."""

from collections.abc import Callable

import pytest

from orchestrator.space import PRUNERS, SAMPLERS, SOURCES, SearchSpace, known_keys
from orchestrator.space import sections as models
from orchestrator.space.axis_values import AXIS_NAMES
from orchestrator.space.section import Section
from orchestrator.space.top_level import TOP_KEYS
from trainable.spec.settings import SETTINGS


def test_every_key_is_listed_once_with_a_type_a_default_and_help() -> None:
    keys = [entry.key for entry in known_keys()]
    assert len(set(keys)) == len(keys)
    assert all(all(entry) for entry in known_keys())


def test_every_top_level_key_axis_and_training_setting_is_listed() -> None:
    keys = {entry.key for entry in known_keys()}
    assert {key.split(".")[0] for key in keys} == set(TOP_KEYS)
    axes = {f"search.{name}" for name in AXIS_NAMES if name not in SETTINGS}
    assert axes | {"search.label_budget"} <= keys
    assert {f"training.{name}" for name in SETTINGS} <= keys


@pytest.mark.parametrize(
    "model",
    [
        *SOURCES.values(),
        *SAMPLERS.values(),
        *PRUNERS.values(),
        *(item for item in Section.__subclasses__() if item.__module__ == models.__name__),
    ],
)
def test_every_field_has_a_setting_that_its_default_obeys(model: type[Section]) -> None:
    for name, field in model.model_fields.items():
        setting = model.setting(name)
        assert setting.help
        assert field.is_required() or field.default is None or setting.accepts(field.default)


def test_the_word_of_a_kind_is_the_word_its_model_takes() -> None:
    for tag, kinds in (("source", SOURCES), ("name", SAMPLERS), ("name", PRUNERS)):
        for word, model in kinds.items():
            assert model.model_fields[tag].default == word


def test_the_defaults_listed_are_the_defaults_taken(read: Callable[..., SearchSpace]) -> None:
    # What a file leaves to the images has no default to list.
    space = read(augment={"ops": ["rotation"]}, objective={"metric": "accuracy"})
    resolved = space.to_json()
    for entry in known_keys():
        section, _, key = entry.key.partition(".")
        if section == "task":  # said by the data source, and not written
            continue
        value = resolved[section]
        if key:
            value = value.get(key)
        if value is not None and entry.default not in ("required", "the file's stem", "none"):
            shown = f"[{', '.join(value)}]" if isinstance(value, list) else str(value)
            assert shown == entry.default, entry.key
