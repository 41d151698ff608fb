"""Exported graphs on disk: the next process reads what this one exported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.builders.text_models import save_text_model
from trainable.backbones import Backbone, Weights, load_weights, transformers_models
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs import exporting, graph_cache
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.cache_folder import GRAPHS
from trainable.features.feature_keys import graph_digest
from trainable.features.store import FOLDER_VARIABLE, FeatureStore

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = save_text_model(tmp_path_factory.mktemp("models") / "bert", num_hidden_layers=1)
    return load_weights(f"transformers:{folder}")


@pytest.fixture(scope="module")
def kept(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """The one file that an export leaves, and its name."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        Backbone(weights).traced(16)
    (file,) = (folder / GRAPHS).iterdir()
    return file.read_bytes(), file.name


@pytest.fixture
def file(kept: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That file in a cache of the test's own."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    content, name = kept
    path = tmp_path / GRAPHS / name
    path.parent.mkdir()
    path.write_bytes(content)
    return path


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the exports from now on."""
    found: list[int] = []
    real = exporting.export

    def counted(model: torch.nn.Module, *, size: int) -> TracedBackbone:
        found.append(size)
        return real(model, size=size)

    monkeypatch.setattr(exporting, "export", counted)
    return found


def test_a_graph_from_the_cache_is_the_one_that_was_exported(
    weights: Weights, file: Path, exports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Backbone(weights).traced(16)
    assert exports == []
    file.write_bytes(b"")
    expected = Backbone(weights).traced(16)
    assert exports == [16]
    assert file.stat().st_size > 0  # made anew
    assert graph_digest(found) == graph_digest(expected)
    assert boundaries(found) == boundaries(expected)
    assert (found.sizes, found.without_dropout) == (expected.sizes, expected.without_dropout)
    tokens = torch.randint(4, 20, (3, 16), generator=torch.Generator().manual_seed(0))
    inputs = (tokens, torch.ones_like(tokens))
    for frozen in (0, 2):
        outputs = []
        for traced in (found, expected):
            halves = split(traced, frozen=frozen, num_classes=2)
            halves.suffix.set_submodule(halves.head, torch.nn.Identity())
            torch.manual_seed(1)
            outputs.append(halves.suffix.train()(halves.prefix(*inputs), *inputs[1:]))
        assert torch.equal(*outputs)
        assert outputs[0].std() > 0


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_off(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def of_other_code(content: bytes) -> bytes:
    pickled = content[len(graph_cache._MAGIC) + 32 :].replace(b"_Parcel", b"_Bundle")
    return graph_cache._MAGIC + hashlib.sha256(pickled).digest() + pickled


@pytest.mark.parametrize("damage", [cut_short, one_bit_off, of_other_code, lambda _: b""])
def test_a_damaged_file_is_no_graph(
    weights: Weights, file: Path, damage: Callable[[bytes], bytes]
) -> None:
    file.write_bytes(damage(file.read_bytes()))
    assert place(weights).read() is None


def place(weights: Weights) -> graph_cache.KeptGraph:
    key = transformers_models.graph_key(weights, size=16)
    return graph_cache.KeptGraph({**key, "weights": weights.digest}, weights.arrays)


def test_what_a_graph_depends_on_is_in_its_name(
    weights: Weights, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place(weights).read() is not None
    how = weights.text_preprocessing
    others = [
        replace(weights, preprocessing=replace(how, pooling="cls")),
        replace(weights, preprocessing=replace(how, normalize=True)),
        replace(weights, args={"config": {**weights.args["config"], "hidden_act": "relu"}}),
        replace(weights, digest="of others"),
    ]
    assert [place(other).read() for other in others] == [None] * 4
    assert transformers_models.graph_key(weights, size=24) != transformers_models.graph_key(
        weights, size=16
    )
    tokens = replace(how, prompt="query: ", truncate="head_tail", max_length=8)
    assert place(replace(weights, preprocessing=tokens)).read() is not None
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert place(weights).read() is None


def test_without_a_folder_nothing_is_kept(
    weights: Weights, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = place(weights).read()
    assert traced is not None
    (tmp_path / "file").touch()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    place(weights).write(traced)
    assert place(weights).read() is None


def test_writers_at_the_same_time_leave_a_whole_file(weights: Weights, file: Path) -> None:
    traced = place(weights).read()
    assert traced is not None
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(place(weights).write, traced) for _ in range(8)]:
            done.result()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert place(weights).read() is not None


def test_graphs_count_in_the_cache_and_go_with_it(file: Path, tmp_path: Path) -> None:
    store = FeatureStore()
    info = store.info()
    assert (info.graphs, info.files, info.collections) == (1, 0, 0)
    assert info.bytes == file.stat().st_size
    FeatureStore(max_bytes=1).make_room()
    assert not file.exists()
    file.write_bytes(b"graph")
    assert store.clear() == 5
    assert not file.exists()
