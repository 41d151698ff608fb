"""Laws: spaces survive the way through YAML, and no text gets past as another exception."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import SpaceError
from orchestrator.space import Range, parse_space, read_mapping
from orchestrator.space.axis_values import AXIS_NAMES, AXIS_SETTINGS
from orchestrator.space.build_space import build_space
from orchestrator.space.top_level import TOP_KEYS
from orchestrator.space.yaml_text import TextError, read_yaml
from trainable.spec.setting import Setting, Text
from trainable.spec.settings import SETTINGS

BACKBONES = ("vit_tiny", "vit_base@none", "resnet50", "no", "timm:mlp@weights/a b.safetensors")


def _numbers(setting: Setting) -> st.SearchStrategy[Any]:
    assert setting.low is not None
    high = 1000 if setting.high is None else setting.high
    if setting.integer:
        return st.integers(int(setting.low), int(high))
    return st.floats(
        setting.low, high, exclude_min=setting.low_excluded, exclude_max=setting.high_excluded
    )


def _values(name: str) -> st.SearchStrategy[Any]:
    if name == "backbone":
        return st.sampled_from(BACKBONES)
    setting = AXIS_SETTINGS[name]
    words = [*setting.words, *(["", "intent: "] if setting.text is Text.PROMPT else [])]
    options = [_numbers(setting)] if setting.low is not None else []
    return st.one_of(*options, *([st.sampled_from(words)] if words else []))


@pytest.mark.parametrize("name", AXIS_SETTINGS)
@given(st.data())
@settings(max_examples=30, deadline=None)
def test_every_value_drawn_here_is_allowed(name: str, data: st.DataObject) -> None:
    assert AXIS_SETTINGS[name].problem(data.draw(_values(name))) is None


@st.composite
def _domains(draw: st.DrawFn, name: str) -> dict[str, Any]:
    setting = AXIS_SETTINGS.get(name)
    kinds = ["value", "values"] + ["range"] * (setting is not None and setting.low is not None)
    kind = draw(st.sampled_from(kinds))
    if kind == "value":
        return {"value": draw(_values(name))}
    if kind == "values":
        return {"values": draw(st.lists(_values(name), min_size=1, max_size=4, unique=True))}
    assert setting is not None
    low, high = sorted(draw(st.lists(_numbers(setting), min_size=2, max_size=2, unique=True)))
    spread = draw(st.sampled_from(["none", "log", "step"]))
    if spread == "log" and low > 0:
        return {"low": low, "high": high, "log": True}
    smallest = 1 if setting.integer else 1e-9 * max(abs(low), abs(high))
    if spread == "step" and smallest <= high - low:
        numbers = st.integers if setting.integer else st.floats
        return {"low": low, "high": high, "step": draw(numbers(smallest, high - low))}
    return {"low": low, "high": high}


@st.composite
def _axes(draw: st.DrawFn) -> dict[str, Any]:
    backbones = draw(st.lists(_values("backbone"), min_size=1, max_size=4, unique=True))
    search: dict[str, Any] = {"backbone": backbones}
    depth = draw(st.sampled_from(["freeze_depth", "frozen_blocks", None]))
    names = draw(st.lists(st.sampled_from(["lr", *SETTINGS]), unique=True, max_size=4))
    for name in [*names, *([depth] if depth else [])]:
        if name in ("steps", "reports"):
            continue
        when = {"backbone": draw(st.sampled_from([*backbones, backbones, "*"]))}
        kind = draw(st.sampled_from(["plain", "when", "cases"]))
        domain = draw(_domains(name))
        if kind == "plain":
            search[name] = domain
        elif kind == "when":
            search[name] = domain | {"when": when}
        else:
            search[name] = {"cases": [domain | {"when": when}, draw(_domains(name))]}
    return search


@st.composite
def _files(draw: st.DrawFn) -> dict[str, Any]:
    budget = st.one_of(
        st.integers(2, 10**6), st.just("all"), st.builds(lambda n: {"total": n}, st.integers(4, 99))
    )
    budgets = draw(st.lists(budget, min_size=1, max_size=4, unique_by=str))
    optional: dict[str, st.SearchStrategy[Any]] = {
        "training": st.fixed_dictionaries({}, optional={"steps": st.integers(5, 10**6)}),
        "validation": st.one_of(
            st.builds(lambda n: {"folds": n}, st.integers(2, 20)),
            st.builds(lambda x: {"holdout": x}, st.floats(0.01, 0.99)),
        ),
        "objective": st.builds(
            lambda x: {"metric": x}, st.sampled_from(["accuracy", "balanced_accuracy", "log_loss"])
        ),
        "trials": st.integers(1, 10**6),
        "sampler": st.sampled_from([{"name": "random"}, {"name": "tpe", "n_startup_trials": 3}]),
        "pruner": st.sampled_from(
            [
                {"name": "none"},
                {"name": "percentile", "percentile": 12.5},
                {"name": "hyperband"},
                {"name": "successive_halving", "min_resource": 2},
                {"n_warmup_steps": 3},
            ]
        ),
        "finalists": st.sampled_from([{"count": 1}, {"repeats": 2}]),
        "baselines": st.lists(st.sampled_from(["probe", "pixels"]), unique=True),
        "limits": st.builds(lambda x: {"hours": x}, st.floats(1e-3, 1e3)),
        "resources": st.sampled_from([{"gpus_per_trial": 0.25}, {"max_concurrent": 3}]),
        "seed": st.integers(0, 2**62),
    }
    file = draw(st.fixed_dictionaries({"name": st.just("a")}, optional=optional))
    return file | {
        "dataset": draw(st.sampled_from([{"source": "digits"}, {"source": "digits", "test": 0.3}])),
        "search": draw(_axes()) | {"label_budget": budgets},
    }


@given(_files())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_space_written_out_reads_back_equal(file: dict[str, Any]) -> None:
    space = parse_space(yaml.safe_dump(file), where="a.yaml")
    again = parse_space(yaml.safe_dump(space.to_json()), where="a.yaml")
    assert again == space
    assert again.fingerprint() == space.fingerprint()
    assert again.to_json() == space.to_json()
    assert build_space(space.to_json()) == space


@given(_files(), st.randoms())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_fingerprint_ignores_the_order_of_keys(file: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        items = list(value.items())
        random.shuffle(items)
        return {key: shuffled(item) for key, item in items}

    space, other = build_space(file), build_space(shuffled(file))
    assert other == space
    assert other.fingerprint() == space.fingerprint()


@given(_files())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_size_of_a_grid_is_the_number_of_its_combinations(file: dict[str, Any]) -> None:
    space = build_space(file)
    size = space.grid_size()
    if size is not None and size < 2000:
        assert len(list(space.grid())) == size


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 1))
def test_the_values_of_a_stepped_range_lie_between_its_ends(
    one: float, other: float, step: float
) -> None:
    low, high = sorted((one, other))
    if low == high or step > high - low:
        return
    text = f"{{low: {low!r}, high: {high!r}, step: {step!r}}}"
    space = parse_space(
        f"dataset: {{source: digits}}\nsearch: {{backbone: a, label_budget: 5, warmup: {text}}}",
        where="a.yaml",
    )
    domain = space.axes["warmup"].cases[0].domain
    assert isinstance(domain, Range)
    values = [value for value, _ in zip(domain.each(), range(50), strict=False)]
    assert values == sorted(set(values))
    assert all(low <= float(value) <= high for value in values)
    assert all(domain.find(value) == value for value in values)


_KEYS = ("label_budget", "low", "high", "log", "step", "value", "values", "when", "cases", "name")
_MORE = ("source", "digits", "folds", "total", "metric", "module", "all", "none", "grid", "auto")
_WORDS = st.one_of(st.text(max_size=20), st.sampled_from([*TOP_KEYS, *AXIS_NAMES, *_KEYS, *_MORE]))
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_WORDS, inner, max_size=5)
    ),
    max_leaves=25,
)


def _message(read: Callable[[], object], error: type[Exception] = SpaceError) -> str | None:
    """What the refusal says, None where there is none; other exceptions pass."""
    try:
        read()
    except error as refused:
        return str(refused)
    return None


@given(st.text(max_size=300))
@example("a: &a [*a]")
@example("%TAG ! x:\n--- !<tag:yaml.org,2002:int> a")
def test_no_text_raises_anything_but_a_space_error(text: str) -> None:
    message = _message(lambda: parse_space(text, where="a.yaml"))
    assert message is not None
    assert message.startswith("a.yaml: ")


@given(st.text(alphabet="ab1-.:,[]{}&*!?|>'\"#%@~ \n\t\\<=eE+x", max_size=60))
@settings(max_examples=500)
def test_no_text_of_yaml_characters_raises_anything_but_a_text_error(text: str) -> None:
    message = _message(lambda: read_yaml(text), TextError)
    assert message is None or "\n" not in message


@given(st.dictionaries(_WORDS, _JSON, max_size=6))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_mapping_raises_anything_but_a_space_error(values: dict[str, Any]) -> None:
    message = _message(lambda: read_mapping(values))
    if message is not None:
        first, *lines = message.split("\n")
        assert first.startswith("search space: ")
        assert all(line.startswith("  ") for line in lines)


@given(st.dictionaries(st.sampled_from(["backbone", "lr", "steps", "optimizer"]), _JSON), _JSON)
@example(axes={}, budget=2.0**63)
@example(axes={"steps": 1e300}, budget=5)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_search_section_raises_anything_but_a_space_error(
    axes: dict[str, Any], budget: Any
) -> None:
    search = {"backbone": ["a", "b"], "label_budget": budget} | axes
    values = {"name": "a", "dataset": {"source": "digits"}, "search": search}
    if _message(lambda: read_mapping(values)) is None:
        space = build_space(values)
        assert build_space(space.to_json()) == space


@given(st.lists(st.builds("{}={}".format, _WORDS, st.text(max_size=20)), max_size=4))
@settings(deadline=None)
def test_no_override_raises_anything_but_a_space_error(overrides: list[str]) -> None:
    text = "dataset: {source: digits}\nsearch: {backbone: a, label_budget: 5}\n"
    message = _message(lambda: parse_space(text, where="a.yaml", overrides=overrides))
    assert message is None or message.startswith("a.yaml: ")
