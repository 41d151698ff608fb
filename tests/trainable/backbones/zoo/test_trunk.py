import pytest
import torch
from safetensors.torch import load_file

from trainable.backbones.zoo import ENTRIES, IMAGE_SIZE, ZooEntry, build, weights_path
from trainable.backbones.zoo.trunk import Trunk

ONE_MEGABYTE = 1_000_000


def load(entry: ZooEntry) -> Trunk:
    trunk = build()
    head = {f"head.{name}": tensor for name, tensor in trunk.head.state_dict().items()}
    trunk.load_state_dict(load_file(weights_path(entry.name)) | head, strict=True)
    return trunk.eval()


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
def test_shipped_weights_are_small_and_fill_everything_but_the_head(entry: ZooEntry) -> None:
    trunk = load(entry)

    assert weights_path(entry.name).stat().st_size < ONE_MEGABYTE
    assert all(tensor.isfinite().all() for tensor in trunk.state_dict().values())
    dtypes = {parameter.dtype for parameter in trunk.parameters()}
    assert dtypes == {torch.float32}


def test_unknown_entry_is_refused_with_the_known_names() -> None:
    with pytest.raises(KeyError, match=r"tiny_stroke.*tiny_fractals, tiny_strokes, tiny_untrained"):
        weights_path("tiny_stroke")


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
def test_traced_graph_equals_the_trunk_to_the_bit(entry: ZooEntry) -> None:
    trunk = load(entry)
    images = torch.randn(5, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))

    traced = torch.fx.symbolic_trace(trunk)

    assert torch.equal(traced(images), trunk(images))


@pytest.mark.parametrize("size", [1, 5, 8, 17, 32])
def test_trunk_takes_images_of_any_size(size: int) -> None:
    assert build(num_classes=7).eval()(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_head_sees_the_pooled_output_of_the_last_block() -> None:
    trunk = build().eval()
    images = torch.rand(4, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))

    pooled = trunk.blocks(trunk.stem(images)).mean(dim=(2, 3))

    torch.testing.assert_close(trunk(images), trunk.head(pooled))
