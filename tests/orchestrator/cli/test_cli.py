from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import app, run
from tests.builders.written_sweeps import digits_sweep, write_sweep
from tests.orchestrator.datasets.conftest import write, write_digits
from tests.orchestrator.recording.test_leaderboard import trial
from trainable import device

REPOSITORY = Path(__file__).parents[3]
LOWDATA = str(REPOSITORY / "search_spaces" / "lowdata.yaml")
HEAVY = ("torch", "ray", "optuna", "pyarrow", "sklearn", "pandas", "numpy", "duckdb")


def test_help_answers_without_importing_anything_heavy() -> None:
    code = (
        "import sys; from orchestrator.cli.main import run; code = run(['--help']);"
        f"print(code, sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "0 []"
    assert "launch" in done.stdout


def test_every_command_is_documented_with_an_example() -> None:
    assert app.registered_commands
    for command in app.registered_commands:
        assert command.callback is not None
        text = command.callback.__doc__ or ""
        assert f"sft-sweep {command.name}" in text, command.name
        assert "Example" in text, command.name


def test_help_shows_each_example_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["leaderboard", "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "sft-sweep leaderboard --budget 5 --top 10" in lines
    assert "sft-sweep leaderboard --target 0.95" in lines


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.freez_depth=0.5"], "did you mean freeze_depth"),
        (["search.lr={low: 0.0, high: 0.1, log: true}"], "a log range needs low > 0"),
        (["search.lr={low: 0.1, high: 0.01}"], "search.lr"),
        (["search.backbone=[]"], "search.backbone"),
        (["search.backbone=tiny_stroke"], "did you mean tiny_strokes"),
        (["search.freeze_depth=1.5"], "search.freeze_depth"),
        (["search.label_budget=1"], "2 or more labels per class"),
        (["search.label_budget=500"], "the largest class has"),
        (["nonsense=1"], "nonsense"),
        (["trials"], "KEY=VALUE"),
    ],
)
def test_a_bad_space_is_refused_with_one_message_and_nothing_is_created(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    message: str,
) -> None:
    out = tmp_path / "runs"
    options = [part for override in overrides for part in ("--set", override)]
    assert run(["launch", LOWDATA, "--out", str(out), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not out.exists()


def test_every_problem_of_a_file_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "dataset: {source: digit}\nsearch: {backbone: nobody, label_budget: 1}\ntrials: 0\n"
    )
    assert run(["validate", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{path}: 4 problems" in err
    for key in ("dataset.source", "search.backbone", "search.label_budget", "trials"):
        assert key in err


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(["launch", str(tmp_path / name), "--out", str(tmp_path / "runs")]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_an_output_directory_that_is_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    assert run(["launch", LOWDATA, "--out", str(tmp_path / "taken")]) == 2
    assert "is no directory" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == ""


def test_a_dry_run_shows_the_plan_and_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert run(["launch", LOWDATA, "--out", str(out), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [study["labels_used"] for study in plan["studies"]] == [20, 50, 100, 200]
    assert [study["folds"] for study in plan["studies"]] == [2, 3, 3, 3]
    assert plan["objective"] == "accuracy"
    assert plan["most_updates"] == 100 * (24 * (2 + 3 + 3 + 3) + 4 * 3 * 5)
    assert not out.exists()
    assert run(["launch", LOWDATA, "--out", str(out), "--dry-run"]) == 0
    assert "at most 32,400 updates" in capsys.readouterr().out


def test_validate_shows_that_a_file_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", LOWDATA]) == 0
    shown = capsys.readouterr().out
    assert f"{LOWDATA}: fine" in shown
    assert "classes: 10: '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'\n" in shown
    assert run(["validate", LOWDATA, "--set", "search.label_budget=[3]"]) == 0
    shown = capsys.readouterr().out
    assert shown.strip().endswith("--set 'search.label_budget=[3]'")


@pytest.mark.parametrize("command", [["validate"], ["launch", "--dry-run"]])
def test_validate_and_dry_run_ask_whether_a_trial_fits_on_what_it_will_run_on(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device, "num_gpus", lambda: 0)
    command += [LOWDATA, "--set", "resources.gpus_per_trial=0.5"]
    assert run(command) == 2
    told = capsys.readouterr().err
    assert f"{LOWDATA}: 1 problem\n  resources.gpus_per_trial: got 0.5; PyTorch finds 0" in told
    monkeypatch.setattr(device, "num_gpus", lambda: 1)
    assert run(command) == 0
    assert run([*command, "--address", "127.0.0.1:1"]) == 4
    assert "--address 127.0.0.1:1: nothing answers there" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["validate"], ["launch", "--dry-run"]])
@pytest.mark.parametrize(
    ("sessions", "told"),
    [
        ("/" + "long" * 30, "bytes too long"),
        ("/dev/null", "is no directory; name another folder in"),
    ],
)
def test_validate_and_dry_run_ask_whether_ray_can_keep_its_sessions(
    command: list[str],
    sessions: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", sessions)
    assert run([*command, LOWDATA]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Ray's sessions: {sessions}")
    assert told in line
    assert line.endswith("RAY_TMPDIR")


def test_data_and_validate_take_overrides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"dataset={{source: folder, path: {tmp_path / 'nowhere'}}}"
    for command in ("data", "validate"):
        assert run([command, LOWDATA, "--set", nowhere]) == 2
        assert "no such folder" in capsys.readouterr().err
    assert run(["data", LOWDATA, "--set", "seed=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 1797


def test_commands_without_any_sweep_say_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("leaderboard", "status", "resume"):
        assert run([command]) == 2
        assert "sft-sweep launch" in capsys.readouterr().err
    assert run(["list"]) == 0
    assert "sft-sweep launch" in capsys.readouterr().out
    assert run(["status", str(tmp_path)]) == 2
    assert "no sweep here" in capsys.readouterr().err


def test_an_unknown_command_or_option_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["lunch"]) == 2
    assert run(["launch", LOWDATA, "--nonsense"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_no_cluster_at_an_address_is_exit_code_four_and_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert run(["launch", LOWDATA, "--out", str(out), "--address", "127.0.0.1:1"]) == 4
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert not out.exists()


def test_a_trial_too_large_for_this_machine_is_exit_code_four_and_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    options = ["--out", str(out), "--set", "resources.cpus_per_trial=100000"]
    assert run(["launch", LOWDATA, *options]) == 4
    assert "a trial needs 100000 CPUs" in capsys.readouterr().err
    assert not out.exists()


def test_backbones_lists_the_shelf(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backbones", "tiny_*", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["tiny_strokes", "tiny_fractals", "tiny_untrained"]
    assert rows[0]["num_boundaries"] == 7
    assert rows[0]["num_params"] == 177_322
    assert (rows[0]["input_size"], rows[0]["modality"]) == (8, "image")
    assert run(["backbones", "resnet*"]) == 0
    out = capsys.readouterr().out
    assert "25,557,032" in out
    assert "224 px" in out
    assert "IMAGENET1K_V2" in out
    assert run(["backbones", "resnt50"]) == 2
    assert "did you mean resnet50" in capsys.readouterr().err


def test_boundaries_of_a_backbone_grow_to_the_whole_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["backbones", "tiny_strokes", "--boundaries", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["boundaries"]
    assert [row["boundary"] for row in rows] == list(range(1, 8))
    assert rows[0] == rows[0] | {"node": "stem_2", "shape": [32, 8, 8], "bytes": 4 * 32 * 64}
    fractions = [row["flops_fraction"] for row in rows]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert run(["backbones", "tiny_strokes", "--boundaries"]) == 0
    assert "blocks_2_relu_1" in capsys.readouterr().out


def test_one_damaged_manifest_does_not_hide_the_other_sweeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("bad", "{"), ("worse", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    assert run(["list", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert str(tmp_path / "bad" / "manifest.json") in captured.err
    assert "Traceback" not in captured.err


def test_an_output_directory_where_nothing_can_be_made_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["launch", LOWDATA, "--out", "/proc/runs"]) == 2
    assert "/proc cannot be written" in capsys.readouterr().err


def test_validate_and_dry_run_tell_what_to_know_of_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_digits(tmp_path / "photos", per_class=12)
    for number in range(8):
        write(tmp_path / "photos" / "0" / f"{number}.txt", b"no image")
    space = tmp_path / "own.yaml"
    space.write_text(
        f"dataset: {{source: folder, path: {tmp_path / 'photos'}}}\n"
        "search: {backbone: tiny_strokes, label_budget: 4}\n"
    )
    for command in (["validate", str(space)], ["launch", str(space), "--dry-run"]):
        assert run(command) == 0
        shown = capsys.readouterr()
        told = shown.err.splitlines()
        assert any(line.startswith("objective: accuracy, because no class") for line in told)
        assert "objective: accuracy" in shown.out.splitlines()
        place = told.index("files that are no images by their names: 8 (8 .txt)")
        assert told[place + 1 : place + 7] == [f"  0/{n}.txt" for n in range(5)] + [
            "  ... and 3 more"
        ]
        assert "test split: a share of 0.2, drawn by content and seed" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([LOWDATA, "--out", "runs"], "an absolute path on the cluster"),
        ([LOWDATA], "--out is missing"),
        (["--resume", "runs/a"], "--resume runs/a"),
        ([], "either a search-space file or --resume RUN"),
        ([LOWDATA, "--resume", "/runs/a"], "either a search-space file or --resume RUN"),
    ],
)
def test_a_job_needs_paths_that_outlive_it(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", *arguments, "--address", "http://127.0.0.1:1"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "koi8-r", "utf-8"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "SELECT 'größe \U0001f408' AS name", "SWEEP"],
        ["query", "SELECT 'größe \U0001f408' AS name", "SWEEP", "--csv"],
        ["query", "SELECT 'größe \U0001f408' AS name", "SWEEP", "--json"],
        ["leaderboard", "SWEEP"],
        ["leaderboard", "SWEEP", "--markdown"],
        ["data", "SPACE"],
        ["validate", "SPACE"],
        ["launch", "SPACE", "--dry-run"],
        ["validate", "größe \udcff.yaml"],
    ],
    ids=" ".join,
)
def test_every_command_prints_on_every_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, arguments: list[str]
) -> None:
    space = tmp_path / "größe \U0001f408.yaml"
    named = {"SPACE": str(space), "SWEEP": str(tmp_path / "größe \U0001f408")}
    digits_sweep(Path(named["SWEEP"]))
    images = tmp_path / "images"
    write_digits(images)
    (images / "0").rename(images / "größe")
    (images / "1").rename(images / "\U0001f408")
    space.write_text(
        f"name: pets\ndataset: {{source: folder, path: {images}, test: 0.2}}\n"
        "search: {backbone: tiny_strokes, label_budget: [2]}\n"
    )
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    code = run([named.get(argument, argument) for argument in arguments])
    for stream in streams.values():
        stream.flush()
    assert code == (2 if "yaml" in arguments[1] else 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["query", "SELECT 'größe \U0001f408' AS name", "SWEEP", "--csv"], "größe \U0001f408"),
        (["leaderboard", "SWEEP", "--csv"], "größe"),
        (["leaderboard", "SWEEP", "--markdown"], "größe"),
    ],
    ids=" ".join,
)
def test_data_in_a_file_or_a_pipe_is_utf_8_whatever_a_terminal_can_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    write_sweep(tmp_path / "sweep", trials=[trial("b2-0000", 0.7, backbone="größe")])
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run([str(tmp_path / "sweep") if one == "SWEEP" else one for one in arguments]) == 0
    stdout.flush()
    assert told in stdout.buffer.getvalue().decode("utf-8")


WITHOUT = """
import sys

import typer  # it has modules of its own for Windows

POSIX = {"fcntl", "grp", "pwd", "resource", "termios"}

class Without:
    def find_spec(self, name, path=None, target=None):
        if name in POSIX:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in POSIX:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Without())
sys.platform = PLATFORM
sys.argv = ["sft-sweep", *sys.argv[1:]]
from orchestrator.cli import main

main()
"""
"""A platform that has none of the modules that Unix alone has."""


@pytest.mark.parametrize("platform", ["win32", "emscripten"])
@pytest.mark.parametrize(
    "arguments",
    [["launch", "pets.yaml"], ["query", "SELECT 1"], ["predict", "a", "b.png"], ["--help"], []],
    ids=str,
)
def test_a_platform_that_is_not_unix_is_refused_in_one_line(
    platform: str, arguments: list[str]
) -> None:
    code = WITHOUT.replace("PLATFORM", repr(platform))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "runs on Linux and macOS; on Windows" in line
