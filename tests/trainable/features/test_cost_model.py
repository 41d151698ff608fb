"""Decisions of the cost model, and the measured speeds of this machine."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from trainable.backbones.cutting.boundaries import Boundary
from trainable.features.cost_model import READS, Speeds, levels, speeds_of
from trainable.spec.trial_spec import CacheMode

CPU = torch.device("cpu")
SPEEDS = Speeds(flops=100.0, values=50.0, read_bytes=40.0, write_bytes=20.0)
CUTS = [
    Boundary(node="a", shape=(10,), params=0, flops=1.0, values=0),
    Boundary(node="b", shape=(10,), params=0, flops=300.0, values=0),
    Boundary(node="c", shape=(5,), params=0, flops=310.0, values=0),
    Boundary(node="d", shape=(1,), params=0, flops=330.0, values=0),
]


def kept(mode: CacheMode, *, rows: int = 1, max_bytes: int = 10**6) -> list[str]:
    found = levels(CUTS, mode=mode, speeds=SPEEDS, rows=rows, max_bytes=max_bytes)
    return [level.boundary.node for level in found if level.kept]


def test_a_boundary_is_kept_if_computing_it_from_the_one_below_costs_more_than_storing() -> None:
    # Compute per row, and bytes: a 0.01 s, 40; b 3 s; c 0.1 s above b, 20; d 0.3 s above b, 4.
    assert kept(CacheMode.AUTO) == ["b", "d"]
    found = levels(CUTS, mode=CacheMode.AUTO, speeds=SPEEDS, rows=1, max_bytes=10**6)
    assert [level.bytes for level in found] == [40, 40, 20, 4]


@pytest.mark.parametrize(("share", "expected"), [(0.99, []), (1.01, ["a"])])
def test_a_row_is_kept_if_it_takes_longer_than_its_part_of_writing_plus_one_reading(
    share: float, expected: list[str]
) -> None:
    store_s = 40 / SPEEDS.write_bytes / READS + 40 / SPEEDS.read_bytes
    cut = Boundary(node="a", shape=(10,), params=0, flops=share * store_s * SPEEDS.flops, values=0)
    found = levels([cut], mode=CacheMode.AUTO, speeds=SPEEDS, rows=1, max_bytes=10**6)
    assert [level.boundary.node for level in found if level.kept] == expected


@pytest.mark.parametrize(("share", "expected"), [(0.99, ["b"]), (1.01, ["b", "c"])])
def test_work_is_counted_from_the_level_kept_below(share: float, expected: list[str]) -> None:
    store_s = 20 / SPEEDS.write_bytes / READS + 20 / SPEEDS.read_bytes
    flops = 300.0 + share * store_s * SPEEDS.flops
    cuts = [*CUTS[:2], Boundary(node="c", shape=(5,), params=0, flops=flops, values=0)]
    found = levels(cuts, mode=CacheMode.AUTO, speeds=SPEEDS, rows=1, max_bytes=10**6)
    assert [level.boundary.node for level in found if level.kept] == expected


@pytest.mark.parametrize(("values", "expected"), [(149, []), (151, ["a"])])
def test_the_values_that_a_network_writes_take_time_as_its_flops_do(
    values: int, expected: list[str]
) -> None:
    cut = Boundary(node="a", shape=(10,), params=0, flops=0.0, values=values)
    speeds = Speeds(flops=1.0, values=100.0, read_bytes=40.0, write_bytes=20.0)
    found = levels([cut], mode=CacheMode.AUTO, speeds=speeds, rows=1, max_bytes=10**6)
    assert [level.boundary.node for level in found if level.kept] == expected  # storing: 1.5 s


def test_always_keeps_all_never_keeps_none_and_auto_leaves_room_for_others() -> None:
    assert kept(CacheMode.ALWAYS, rows=10**9) == ["a", "b", "c", "d"]
    assert kept(CacheMode.NEVER) == []
    assert kept(CacheMode.AUTO, rows=100, max_bytes=4 * 40 * 100) == ["b", "d"]
    assert kept(CacheMode.AUTO, rows=100, max_bytes=4 * 40 * 100 - 4) == ["c", "d"]


def test_speeds_are_measured_once_and_remembered(tmp_path: Path) -> None:
    first = speeds_of(tmp_path, device=CPU)
    assert all(math.isfinite(value) and value > 0 for value in asdict(first).values())
    assert [path.name for path in tmp_path.iterdir()] == ["speeds.json"]
    assert speeds_of(tmp_path, device=CPU) == first
    gpu = speeds_of(tmp_path, device=torch.device("cuda"))
    assert gpu.flops > first.flops
    assert gpu.values > first.values


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"flops": 1}',
        '{"flops": 1, "read_bytes": 1, "write_bytes": 1}',
        '{"flops": 0, "values": 1, "read_bytes": 1, "write_bytes": 1}',
    ],
)
def test_speeds_that_make_no_sense_are_measured_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(content)
    measured = speeds_of(tmp_path, device=CPU)
    assert measured.flops > 1
    assert json.loads(path.read_text()) == asdict(measured)


def test_measuring_keeps_the_number_of_threads_and_needs_no_folder(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    measured = speeds_of(tmp_path / "nowhere", device=CPU)
    assert measured.flops > 0
    assert torch.get_num_threads() == before


def test_speeds_are_measured_even_on_a_machine_too_busy_for_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.features.cost_model._PROBE_S", 0.0)
    assert speeds_of(tmp_path, device=CPU).flops > 0
