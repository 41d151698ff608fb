"""`search:`: how axes, conditions and label budgets are read, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import SpaceError
from orchestrator.space import Axis, Case, Choice, Condition, Fixed, Range, SearchSpace, parse_space
from orchestrator.space.build_space import build_space
from trainable.spec.trial_spec import LabelBudget

Read = Callable[..., SearchSpace]
ProblemsOf = Callable[..., list[str]]


def _domain(space: SearchSpace, name: str) -> object:
    (case,) = space.axes[name].cases
    assert case.when == ()
    return case.domain


@pytest.mark.parametrize(
    ("name", "given", "domain"),
    [
        ("backbone", "resnet50@none", Fixed("resnet50@none")),
        ("backbone", ["timm:vit", "no"], Choice(("timm:vit", "no"))),
        ("backbone", ["one"], Fixed("one")),
        ("freeze_depth", [0, 0.5, 1], Choice((0.0, 0.5, 1.0))),
        ("freeze_depth", {"values": [0, 1]}, Choice((0.0, 1.0))),
        ("freeze_depth", {"low": 0, "high": 1, "step": 0.25}, Range(0.0, 1.0, step=0.25)),
        ("freeze_depth", {"low": 0.1, "high": 0.3, "step": 0.2}, Range(0.1, 0.3, step=0.2)),
        ("freeze_depth", {"low": 0, "high": 1, "step": 0.3}, Range(0.0, 0.9, step=0.3)),
        ("frozen_blocks", {"low": -1, "high": 4}, Range(-1, 4, integer=True)),
        ("train_blocks", [1, 3], Fixed("1-3")),
        ("train_blocks", "1-3", Fixed("1-3")),
        ("train_blocks", [[1, 3], "2-4"], Choice(("1-3", "2-4"))),
        ("frozen_blocks", {"low": 0.0, "high": 5, "step": 2.0}, Range(0, 4, step=2, integer=True)),
        ("lr", 1, Fixed(1.0)),
        ("lr", {"value": 1e-3}, Fixed(1e-3)),
        ("lr", {"low": 1e-4, "high": 1e-1, "log": True}, Range(1e-4, 1e-1, log=True)),
        ("lr", {"low": 1e-4, "high": 1e-1, "log": False}, Range(1e-4, 1e-1)),
        ("steps", {"low": 8, "high": 64, "log": True}, Range(8, 64, log=True, integer=True)),
        ("batch_size", ["auto", 16.0], Choice(("auto", 16))),
        ("optimizer", ["sgd", "adamw"], Choice(("sgd", "adamw"))),
        ("layer_decay", {"low": 0.6, "high": 1}, Range(0.6, 1.0)),
    ],
)
def test_an_axis_is_a_list_a_range_or_a_bare_value(
    read: Read, name: str, given: object, domain: object
) -> None:
    space = read({name: given})
    assert _domain(space, name) == domain
    (case,) = space.axes[name].cases
    if isinstance(case.domain, Range):
        assert type(case.domain.low) is type(case.domain.high)
        assert isinstance(case.domain.low, int) is case.domain.integer


def test_numbers_with_an_exponent_and_no_point_are_numbers() -> None:
    text = (
        "dataset: {source: digits}\n"
        "search: {backbone: tiny, label_budget: 5, lr: {low: 1e-4, high: 3e-2, log: true}}\n"
    )
    space = parse_space(text, where="a.yaml")
    assert _domain(space, "lr") == Range(1e-4, 3e-2, log=True)


def test_axes_left_out_are_fixed_at_their_defaults(read: Read) -> None:
    space = read()
    assert _domain(space, "freeze_depth") == Fixed(0.0)
    assert _domain(space, "lr") == Fixed(1e-3)
    assert space.varies == ("backbone",)
    assert "freeze_depth" not in read({"frozen_blocks": 3}).axes


def test_label_budgets_are_numbers_all_and_totals(read: Read) -> None:
    space = read({"label_budget": [5.0, "all", {"total": 500}]})
    assert space.label_budgets == (LabelBudget(5), LabelBudget(), LabelBudget(total=500))
    assert read({"label_budget": {"total": 40}}).label_budgets == (LabelBudget(total=40),)


def test_conditions_are_globs_numbers_or_lists_of_them(read: Read) -> None:
    space = read(
        {
            "layer_decay": {"low": 0.6, "high": 1.0, "when": {"backbone": "vit_*"}},
            "warmup": {"values": [0, 0.1], "when": {"freeze_depth": [0, 0.5]}},
            "freeze_depth": [0, 0.5, 1],
        }
    )
    assert space.axes["layer_decay"] == Axis(
        "layer_decay", (Case(Range(0.6, 1.0), (Condition("backbone", ("vit_*",)),)),)
    )
    assert space.axes["warmup"].cases[0].when == (Condition("freeze_depth", (0.0, 0.5)),)
    assert list(space.axes) == ["backbone", "layer_decay", "freeze_depth", "warmup", "lr"]


def test_cases_are_read_in_order_with_a_fallback_at_the_end(read: Read) -> None:
    space = read(
        {
            "lr": {
                "cases": [
                    {"when": {"backbone": "vit_*"}, "low": 1e-5, "high": 1e-3, "log": True},
                    {"when": {"backbone": ["res*", "*_tiny"]}, "values": [0.1, 0.01]},
                    0.5,
                ]
            }
        }
    )
    assert space.axes["lr"].domains == (
        Range(1e-5, 1e-3, log=True),
        Choice((0.1, 0.01)),
        Fixed(0.5),
    )
    assert space.axes["lr"].always_applies


def test_a_training_setting_may_serve_where_a_conditional_axis_is_silent(read: Read) -> None:
    search = {"weight_decay": {"value": 0.5, "when": {"backbone": "vit_*"}}}
    space = read(search, training={"weight_decay": 0.1})
    spec = space.spec({"backbone": "resnet_tiny"}, LabelBudget(5))
    assert spec.weight_decay == 0.1
    assert space.spec({"backbone": "vit_tiny"}, LabelBudget(5)).weight_decay == 0.5


@pytest.mark.parametrize(
    ("search", "line"),
    [
        ({"freez_depth": 0}, "search.freez_depth: unknown axis; did you mean freeze_depth?"),
        ({"trials": 3}, "search.trials: unknown axis here; it belongs to the top level"),
        ({"folds": 3}, "search.folds: unknown axis here; did you mean validation.folds?"),
        ({"backbone": None}, "search.backbone: got nothing; allowed: text NAME[@WEIGHTS]"),
        ({"backbone": "@none"}, "search.backbone: got '@none'; allowed: text NAME[@WEIGHTS]"),
        ({"backbone": " a"}, "search.backbone: got ' a'; allowed: text NAME[@WEIGHTS]"),
        ({"backbone": ["a", 5]}, "search.backbone: got 5; allowed: text NAME[@WEIGHTS]"),
        ({"backbone": []}, "search.backbone: got an empty list; allowed: at least one value"),
        ({"backbone": ["a", "a"]}, "search.backbone: got 'a' twice; allowed: distinct values"),
        ({"backbone": {"low": 1, "high": 2}}, "search.backbone: takes no range; allowed: names"),
        (
            {"backbone": ["a", {"name": "b", "module": "c"}]},
            "search.backbone: module: got 'c'; allowed: package.module:function",
        ),
        (
            {"backbone": {"module": "c:d", "args": {}}},
            "search.backbone: name: got None; allowed: text for tables, without @*?[:",
        ),
        (
            {"backbone": [{"name": "b", "module": "c:d"}, {"name": "b", "module": "c:e"}]},
            "search.backbone: name: got 'b' for two backbones; allowed: distinct names",
        ),
        (
            {"backbone": {"value": "a", "when": {"lr": 0.001}}},
            "search.backbone: every trial needs one; end with a case that has no `when`",
        ),
        ({"lr": 0}, "search.lr: got 0; allowed: a number above 0"),
        ({"lr": "1_0"}, "search.lr: got '1_0'; allowed: a number above 0"),
        ({"lr": float("inf")}, "search.lr: got inf; allowed: a number above 0"),
        ({"lr": True}, "search.lr: got true; allowed: a number above 0"),
        ({"lr": [0.1, 1e-1]}, "search.lr: got 0.1 twice; allowed: distinct values"),
        ({"freeze_depth": [0, 1.5]}, "search.freeze_depth: got 1.5; allowed: a number from 0 to 1"),
        ({"frozen_blocks": -2}, "search.frozen_blocks: got -2; allowed: a whole number from -1"),
        ({"frozen_blocks": 2.5}, "search.frozen_blocks: got 2.5; allowed: a whole number from -1"),
        (
            {"frozen_blocks": 2, "freeze_depth": 0},
            "search.frozen_blocks: given with freeze_depth; give one of the two",
        ),
        (
            {"train_blocks": "1-2", "freeze_depth": 0},
            "search.train_blocks: given with freeze_depth; give one of the two",
        ),
        (
            {"train_blocks": [2]},
            "search.train_blocks: got 2; allowed: [first, last] or text FIRST-LAST",
        ),
        (
            {"train_blocks": "2-1"},
            "search.train_blocks: got '2-1'; allowed: [first, last] or text FIRST-LAST",
        ),
        (
            {"train_blocks": {"low": 1, "high": 2}},
            "search.train_blocks: takes no range; allowed: names",
        ),
        (
            {"lr": {"low": 0.0, "high": 1, "log": True}},
            "search.lr.low: got 0.0; a log range needs low > 0",
        ),
        (
            {"frozen_blocks": {"low": -1, "high": 1, "log": True}},
            "search.frozen_blocks.low: got -1; a log range needs low > 0",
        ),
        ({"lr": {"low": 1, "high": 1}}, "search.lr: got low 1.0 and high 1.0; low must be below"),
        ({"lr": {"low": 0.1}}, "search.lr: a range needs both low and high; high is missing"),
        ({"lr": {"low": "a", "high": 1}}, "search.lr.low: got 'a'; allowed: a number above 0"),
        (
            {"warmup": {"low": 0, "high": 1.5}},
            "search.warmup.high: got 1.5; allowed: a number from 0 to 1",
        ),
        (
            {"steps": {"low": 8, "high": 16.5}},
            "search.steps.high: got 16.5; allowed: a whole number from 1",
        ),
        (
            {"batch_size": {"low": "auto", "high": 16}},
            "search.batch_size.low: got 'auto'; allowed: a whole number from 1",
        ),
        (
            {"batch_size": {"low": 8, "high": 10**12, "log": True}},
            "search.batch_size.high: got 1000000000000; allowed: a whole number from 1 to 65536",
        ),
        (
            {"image_size": [64, 100_000]},
            "search.image_size: got 100000; allowed: a whole number from 1 to 8192 or auto",
        ),
        (
            {"lr": {"low": 0.1, "high": 1, "log": "yes"}},
            "search.lr.log: got 'yes'; allowed: true or false",
        ),
        (
            {"lr": {"low": 0.1, "high": 1, "log": True, "step": 0.1}},
            "search.lr: got both step and log; allowed: one of the two",
        ),
        (
            {"lr": {"low": 0.1, "high": 1, "step": 0}},
            "search.lr.step: got 0; allowed: a number above 0",
        ),
        (
            {"lr": {"low": 0.1, "high": 1, "step": 2}},
            "search.lr.step: got 2; allowed: at most high - low, which is 0.9",
        ),
        (
            {"lr": {"low": 0.1, "high": 1, "step": 1e-12}},
            "search.lr.step: got 1e-12; allowed: a number from 1e-09 on this range",
        ),
        (
            {"steps": {"low": 8, "high": 64, "step": 0.5}},
            "search.steps.step: got 0.5; allowed: a whole number above 0",
        ),
        (
            {"optimizer": {"low": 1, "high": 2}},
            "search.optimizer: takes no range; allowed: one of adamw, sgd",
        ),
        (
            {"optimizer": ["adam", "sgd"]},
            "search.optimizer: got 'adam'; allowed: one of adamw, sgd; did you mean adamw?",
        ),
        ({"lr": {}}, "search.lr: says no value; give one of: value, values, low with high"),
        (
            {"lr": {"value": 1, "low": 1, "high": 2}},
            "search.lr: got value and low with high; give one of",
        ),
        ({"lr": {"values": 1}}, "search.lr.values: got 1; allowed: a list"),
        (
            {"lr": {"low": 0.1, "high": 1, "stepp": 1}},
            "search.lr.stepp: unknown key; did you mean step?",
        ),
        ({"lr": {"cases": []}}, "search.lr.cases: got []; allowed: a list of at least one case"),
        ({"lr": {"cases": 1}}, "search.lr.cases: got 1; allowed: a list of at least one case"),
        (
            {"lr": {"cases": [0.1], "when": {"backbone": "*"}}},
            "search.lr.when: belongs inside one of the cases",
        ),
        (
            {"lr": {"cases": [{"cases": [0.1]}]}},
            "search.lr.cases[0]: a case cannot hold cases of its own",
        ),
        (
            {"lr": {"cases": [0.1, {"value": 1, "when": {"backbone": "vit*"}}]}},
            "search.lr.cases[0]: has no `when` and so hides the cases after it; put it last",
        ),
        (
            {"lr": {"cases": [{"value": 0, "when": {"backbone": "vit*"}}]}},
            "search.lr.cases[0].value: got 0; allowed: a number above 0",
        ),
        (
            {"lr": {"cases": [{"value": 1, "when": {"backbone": "vat*"}}]}},
            "search.lr.cases[0].when.backbone: got 'vat*'; it matches none of the values of "
            "search.backbone",
        ),
        (
            {"lr": {"value": 1, "when": {}}},
            "search.lr.when: got {}; allowed: a mapping from other axes to their values",
        ),
        (
            {"lr": {"value": 1, "when": {"lr": 1}}},
            "search.lr.when.lr: a condition cannot name its own axis",
        ),
        (
            {"lr": {"value": 1, "when": {"label_budget": 5}}},
            "search.lr.when.label_budget: each label budget is a study of its own",
        ),
        (
            {"lr": {"value": 1, "when": {"bakbone": "a"}}},
            "search.lr.when.bakbone: unknown axis; did you mean backbone?",
        ),
        (
            {"lr": {"value": 1, "when": {"optimizer": "sgd"}}},
            "search.lr.when.optimizer: no axis of this file; its axes: backbone, lr, freeze_depth",
        ),
        (
            {"lr": {"value": 1, "when": {"backbone": True}}},
            "search.lr.when.backbone: got true; allowed: a value, a glob, or a list of them",
        ),
        (
            {"lr": {"value": 1, "when": {"backbone": []}}},
            "search.lr.when.backbone: got an empty list; allowed: at least one value or glob",
        ),
        (
            {"lr": {"value": 1, "when": {"freeze_depth": 0.4}}, "freeze_depth": [0, 0.5]},
            "search.lr.when.freeze_depth: got 0.4; it matches none of the values of",
        ),
        (
            {
                "lr": {"value": 1, "when": {"freeze_depth": 0.4}},
                "freeze_depth": {"low": 0, "high": 1},
            },
            "search.lr.when.freeze_depth: is a continuous range; a condition needs single values",
        ),
        (
            {
                "lr": {"value": 1, "when": {"optimizer": "sgd"}},
                "optimizer": {"values": ["sgd", "adamw"], "when": {"lr": 1}},
            },
            "search.lr: its condition leads back to itself: lr -> optimizer -> lr",
        ),
        ({"label_budget": None}, "search.label_budget: missing; allowed: whole numbers of labels"),
        ({"label_budget": []}, "search.label_budget: got an empty list; allowed: whole numbers"),
        ({"label_budget": 0}, "search.label_budget: got 0; allowed: whole numbers of labels"),
        ({"label_budget": [2.5]}, "search.label_budget: got 2.5; allowed: whole numbers"),
        ({"label_budget": True}, "search.label_budget: got true; allowed: whole numbers"),
        ({"label_budget": {"totl": 5}}, "search.label_budget: got {totl: 5}; allowed: whole"),
        (
            {"label_budget": {"low": 2, "high": 5}},
            "search.label_budget: got {low: 2, high: 5}; allowed: whole numbers",
        ),
        ({"label_budget": [5, 5.0]}, "search.label_budget: got 5.0 twice; allowed: distinct"),
        (
            {"label_budget": [1, 5]},
            "search.label_budget: got 1; validation lies inside the label budget; allowed: "
            "2 or more labels per class",
        ),
        (
            {"label_budget": {"total": 3}},
            "search.label_budget: got {total: 3}; validation lies inside the label budget; "
            "allowed: 4 or more labels in all",
        ),
        (
            {"steps": {"low": 4, "high": 100}},
            "training.reports: got 5; allowed: at most search.steps, which can be 4",
        ),
        (
            {"reports": [5, 300]},
            "search.reports: got 300; allowed: at most training.steps, which can be 200",
        ),
    ],
)
def test_a_search_problem_says_where_what_was_given_and_what_is_allowed(
    problems: ProblemsOf, search: dict[str, Any], line: str
) -> None:
    (found,) = problems(search)
    assert found.startswith(line)


def _error(text: str) -> str:
    with pytest.raises(SpaceError, match=r"^a\.yaml: \d problem") as caught:
        parse_space(text, where="a.yaml")
    return str(caught.value)


def test_a_missing_search_section_and_missing_axes_are_told() -> None:
    dataset = "dataset: {source: digits}\n"
    assert "search: missing; it needs backbone and label_budget" in _error(dataset)
    assert "search: got [1]; allowed: a mapping of axes" in _error(dataset + "search: [1]")
    both = _error(dataset + "search: {lr: 0.1}")
    assert "search.backbone: missing; name at least one, such as resnet50" in both
    assert "search.label_budget: missing; allowed: whole numbers of labels per class" in both


def test_every_case_with_problems_is_told(problems: ProblemsOf) -> None:
    lines = problems(
        {"lr": {"cases": [{"value": 0, "when": {"backbone": "vit*"}}, {"low": 1, "high": "x"}]}}
    )
    assert [line.split(":")[0] for line in lines] == [
        "search.lr.cases[0].value",
        "search.lr.cases[1].high",
    ]


def test_a_broken_axis_does_not_break_the_conditions_on_it(problems: ProblemsOf) -> None:
    (line,) = problems({"lr": {"value": 1, "when": {"optimizer": "sgd"}}, "optimizer": "adam"})
    assert line.startswith("search.optimizer: got 'adam'")


def test_a_setting_that_is_always_an_axis_cannot_be_a_training_setting_too(
    problems: ProblemsOf,
) -> None:
    (line,) = problems({"steps": [50, 100]}, training={"steps": 50})
    assert line == "training.steps: given as search.steps too; give one of the two"


def test_the_grid_sampler_needs_every_axis_discrete(read: Read, problems: ProblemsOf) -> None:
    grid = {"name": "grid"}
    (line,) = problems({"lr": {"low": 1e-4, "high": 1e-1, "log": True}}, sampler=grid)
    assert line == (
        "search.lr: a continuous range; the grid sampler needs a list or a range with step"
    )
    search = {"freeze_depth": {"low": 0, "high": 1, "step": 0.5}, "steps": {"low": 8, "high": 9}}
    assert read(search, sampler=grid).grid_size() == 2 * 3 * 2


def test_what_is_wrong_with_a_backbone_becomes_a_problem_line() -> None:
    text = (
        "dataset: {source: digits}\nsearch: {backbone: [tiny, resnt50], label_budget: 5, lr: 0}\n"
    )

    class Registry:
        def known_problem(self, name: str) -> str | None:
            return None if name == "tiny" else f"unknown backbone {name}; did you mean resnet50?"

        def expand(self, pattern: str) -> list[str]:
            return [pattern]

        def modality_of_name(self, name: str) -> str:
            return "image"

        def task_of_name(self, name: str) -> str:
            return "classification"

    with pytest.raises(SpaceError, match=r"a\.yaml: 2 problems") as caught:
        parse_space(text, where="a.yaml", registry=Registry())
    assert "\n  search.backbone: unknown backbone resnt50; did you mean resnet50?\n" in str(
        caught.value
    )


def test_backbones_of_the_users_own_code_have_names_and_are_written_out(read: Read) -> None:
    mine = {"name": "mine", "module": "nets.models:build", "args": {"width": 8}}
    space = read(
        {
            "backbone": ["vit_tiny", mine],
            "layer_decay": {"low": 0.5, "high": 1.0, "when": {"backbone": "mine"}},
        }
    )
    assert space.axes["backbone"].domains[0].grid() == ("vit_tiny", "mine")
    assert space.custom["mine"].args == {"width": 8}
    assert space.to_json()["search"]["backbone"] == ["vit_tiny", mine]
    assert build_space(space.to_json()) == space
    other = read({"backbone": ["vit_tiny", {**mine, "args": {"width": 9}}]})
    assert other.fingerprint() != read({"backbone": ["vit_tiny", mine]}).fingerprint()


def test_a_backbone_of_ones_own_can_be_the_only_one_or_chosen_by_case(read: Read) -> None:
    mine = {"name": "mine", "module": "nets:build"}
    alone = read({"backbone": mine})
    assert alone.to_json()["search"]["backbone"] == mine
    cases = [{"value": mine, "when": {"optimizer": "sgd"}}, {"values": ["vit_tiny", mine]}]
    space = read({"optimizer": ["sgd", "adamw"], "backbone": {"cases": cases}})
    assert build_space(space.to_json()) == space


def test_a_name_of_the_shelf_is_not_ones_own() -> None:
    text = (
        "dataset: {source: digits}\n"
        "search: {backbone: {name: known, module: 'a:b'}, label_budget: 5}\n"
    )

    class Registry:
        def known_problem(self, name: str) -> str | None:
            return None if name == "known" else "unknown"

        def expand(self, pattern: str) -> list[str]:
            return [pattern]

        def modality_of_name(self, name: str) -> str:
            return "image"

        def task_of_name(self, name: str) -> str:
            return "classification"

    with pytest.raises(SpaceError, match="name: got 'known', a known backbone; choose another"):
        parse_space(text, where="a.yaml", registry=Registry())
