from __future__ import annotations

from typing import Any

import pytest
import yaml

from orchestrator.planning.inputs import Inputs, inputs_of, sizes_are_open
from orchestrator.planning.plan import Baseline, baselines_of, most_baselines, probe_beside
from orchestrator.running.broker.samplers import shuffled_grid
from orchestrator.space import SearchSpace, parse_space

TWO = ["vit_tiny", "resnet_tiny"]


def _space(search: dict[str, Any] | None = None, **top: Any) -> SearchSpace:
    base = {"backbone": "resnet_tiny", "lr": [0.1, 0.2], "label_budget": [5]}
    values = {"dataset": {"source": "digits"}, "search": base | (search or {})} | top
    return parse_space(yaml.safe_dump(values, sort_keys=False), where="pets.yaml")


def _probes(space: SearchSpace) -> list[str]:
    return [one.trial_id for one in baselines_of(space, "b5") if one.method == "probe"]


def _seen(space: SearchSpace) -> set[tuple[Any, ...]]:
    """Inputs of all trials that the space allows, by enumerating them."""
    specs = [space.spec(params, space.label_budgets[0]) for params in shuffled_grid(space)]
    return {(spec.backbone, Inputs.of(spec, modality="image")) for spec in specs}


SPACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "silent": ({}, {}),
    "fixed": ({}, {"training": {"image_size": 96, "precision": "bf16"}}),
    "axis of one value": ({"image_size": 48}, {}),
    "axis of two": ({"image_size": [32, 64]}, {}),
    "auto among them": ({"image_size": ["auto", 64]}, {}),
    "both": ({"image_size": [32, 64], "precision": ["fp32", "bf16"]}, {}),
    "few steps": ({"image_size": {"low": 32, "high": 256, "step": 32}}, {}),
    "when backbone": (
        {"backbone": TWO, "image_size": {"when": {"backbone": "vit_*"}, "values": [32, 64]}},
        {"training": {"image_size": 128}},
    ),
    "cases": (
        {
            "backbone": TWO,
            "image_size": {
                "cases": [
                    {"when": {"backbone": "vit_*"}, "value": 224},
                    {"low": 32, "high": 96, "step": 32},
                ]
            },
            "precision": {
                "cases": [{"when": {"image_size": 64}, "value": "bf16"}, {"value": "fp32"}]
            },
        },
        {},
    ),
    "when another axis": (
        {
            "steps": {"low": 100, "high": 400},
            "freeze_depth": [0.0, 1.0],
            "image_size": {"when": {"freeze_depth": 1.0, "steps": [250, 300]}, "values": [32, 64]},
        },
        {"training": {"image_size": 96, "reports": 2}},
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_every_input_of_the_trials_has_a_probe_and_no_other(name: str) -> None:
    search, top = SPACES[name]
    space = _space(search, **top)
    probes = [one for one in baselines_of(space, "b5") if one.method == "probe"]
    seen = [(one.backbone, Inputs(size=one.size, precision=one.precision)) for one in probes]
    assert set(seen) == _seen(space)
    assert len({one.trial_id for one in probes}) == len(set(seen)) == len(seen)
    assert most_baselines(space, "b5") == len(baselines_of(space, "b5"))


@pytest.mark.parametrize(
    ("search", "sizes"), [({"image_size": [32, 64]}, {32, 64}), ({"image_size": 48}, {48})]
)
def test_every_probes_size_is_a_trials(search: dict[str, Any], sizes: set[int]) -> None:
    probes = [one for one in baselines_of(_space(search), "b5") if one.method == "probe"]
    assert {one.size for one in probes} == sizes


@pytest.mark.parametrize(
    ("search", "top", "ids"),
    [
        ({"image_size": 48}, {}, ["resnet_tiny"]),
        ({"precision": "bf16"}, {}, ["resnet_tiny"]),
        ({"image_size": [32, 64]}, {}, ["resnet_tiny-32px", "resnet_tiny-64px"]),
        ({"image_size": ["auto", 64]}, {}, ["resnet_tiny-autopx", "resnet_tiny-64px"]),
        ({"precision": ["fp32", "bf16"]}, {}, ["resnet_tiny-fp32", "resnet_tiny-bf16"]),
        (
            {"image_size": [32, 64], "precision": ["fp32", "bf16"]},
            {},
            [f"resnet_tiny-{size}px-{p}" for size in (32, 64) for p in ("fp32", "bf16")],
        ),
        (
            {"backbone": TWO, "image_size": {"when": {"backbone": "vit_*"}, "values": [32, 64]}},
            {},
            ["vit_tiny-32px", "vit_tiny-64px", "resnet_tiny"],
        ),
        (  # sizes differ in the sweep, but not for this backbone
            {
                "backbone": TWO,
                "image_size": {
                    "cases": [{"when": {"backbone": "vit_*"}, "value": 64}, {"value": 32}]
                },
                "precision": {"when": {"backbone": "vit_*"}, "values": ["fp32", "bf16"]},
            },
            {},
            ["vit_tiny-64px-fp32", "vit_tiny-64px-bf16", "resnet_tiny"],
        ),
    ],
)
def test_ids_of_probes_have_what_differs_within_the_sweep_and_nothing_else(
    search: dict[str, Any], top: dict[str, Any], ids: list[str]
) -> None:
    assert _probes(_space(search, **top)) == [f"b5-probe-{name}" for name in ids]


@pytest.mark.parametrize(
    ("domain", "sizes", "are_open"),
    [
        ({"low": 32, "high": 256, "step": 32}, [32, 64, 96, 128, 160, 192, 224, 256], False),
        ({"low": 32, "high": 288, "step": 32}, [32, 288], True),
        ({"low": 32, "high": 64}, [32, 64], True),
        ({"low": 32, "high": 512, "log": True}, [32, 512], True),
    ],
)
def test_a_range_of_few_sizes_is_planned_in_full_and_a_longer_one_at_its_ends(
    domain: dict[str, Any], sizes: list[int], are_open: bool
) -> None:
    space = _space({"image_size": domain}, finalists={"count": 2})
    assert [inputs.size for inputs in inputs_of(space)["resnet_tiny"]] == sizes
    assert sizes_are_open(space) == are_open
    more = 2 if are_open else 0
    assert most_baselines(space, "b5") == 1 + len(sizes) + more
    assert most_baselines(_space({"image_size": domain}, baselines=["pixels"]), "b5") == 1


def test_the_probe_beside_a_trial_has_its_size_and_precision_and_the_id_of_a_planned_one() -> None:
    space = _space({"image_size": {"low": 32, "high": 512}, "precision": ["fp32", "bf16"]})
    budget = space.label_budgets[0]

    def beside_trial_of(size: int) -> Baseline:
        params: dict[str, Any] = {"backbone": "resnet_tiny", "lr": 0.1, "precision": "bf16"}
        found = probe_beside(space, "b5", space.spec(params | {"image_size": size}, budget))
        assert found is not None
        return found

    beside = beside_trial_of(100)
    assert beside.trial_id == "b5-probe-resnet_tiny-100px-bf16"
    assert (beside.size, beside.precision) == (100, "bf16")
    assert beside_trial_of(32) in baselines_of(space, "b5")
    no_probes = _space({"image_size": {"low": 32, "high": 512}}, baselines=["pixels"])
    spec = no_probes.spec({"backbone": "resnet_tiny", "lr": 0.1, "image_size": 100}, budget)
    assert probe_beside(no_probes, "b5", spec) is None


def test_a_condition_on_a_very_long_range_does_not_enumerate_it() -> None:
    axes = {
        "steps": {"low": 1, "high": 10**9},
        "image_size": {"when": {"steps": 7}, "values": [32, 64]},
    }
    space = _space(axes, training={"image_size": 96, "reports": 1})
    assert inputs_of(space)["resnet_tiny"] == [
        Inputs(size=size, precision="auto") for size in (32, 64, 96)
    ]


def test_each_way_to_read_texts_has_a_probe_of_its_own() -> None:
    search = {
        "backbone": "transformers:org/name",
        "pooling": {"cases": [{"when": {"max_length": 64}, "values": ["auto", "cls"]}]},
        "max_length": ["auto", 64],
        "prompt": ["", "query: "],
        "dropout": [0.0, 0.1],
    }
    space = _space(search, training={"truncate": "head_tail"}, baselines=["probe"])
    assert sorted(_probes(space)) == [
        "b5-probe-transformers:org-name-64tokens-prompt1-auto",
        "b5-probe-transformers:org-name-64tokens-prompt1-cls",
        "b5-probe-transformers:org-name-64tokens-prompt2-auto",
        "b5-probe-transformers:org-name-64tokens-prompt2-cls",
        "b5-probe-transformers:org-name-autotokens-prompt1-auto",
        "b5-probe-transformers:org-name-autotokens-prompt2-auto",
    ]
    found = {
        (one.size, *dict(one.reading).values()) for one in baselines_of(space, "b5") if one.reading
    }
    assert (64, "head_tail", "query: ", "cls") in found
    trial = space.spec(
        {
            "backbone": "transformers:org/name",
            "lr": 0.1,
            "max_length": 64,
            "pooling": "cls",
            "prompt": "",
            "dropout": 0.1,
        },
        space.label_budgets[0],
    )
    beside = probe_beside(space, "b5", trial)
    assert beside is not None
    assert beside.trial_id == "b5-probe-transformers:org-name-64tokens-prompt1-cls"
