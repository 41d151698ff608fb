from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.space import id_part, short_names


@pytest.mark.parametrize(
    ("spelled", "short"),
    [
        ("tiny_strokes", "tiny_strokes"),
        ("resnet50@IMAGENET1K_V1", "resnet50@IMAGENET1K_V1"),
        ("resnet50@none", "resnet50@none"),
        ("resnet50@my.safetensors", "resnet50@my.safetensors"),
        ("resnet50@weights/long/path/my.safetensors", "resnet50@my.safetensors"),
        ("timm:vit_tiny@/abs/path/x.safetensors", "timm:vit_tiny@x.safetensors"),
        ("timm:vit_tiny.tag", "timm:vit_tiny.tag"),
        ("transformers:/long/path/to/minilm", "transformers:minilm"),
        ("transformers:./models/minilm@none", "transformers:minilm@none"),
        ("transformers:org/minilm@none", "transformers:org/minilm@none"),
        ("my own", "my own"),
    ],
)
def test_a_path_of_weights_is_shown_by_its_file(spelled: str, short: str) -> None:
    assert short_names([spelled]) == {spelled: short}


def test_files_of_one_name_get_as_much_of_their_paths_as_tells_them_apart() -> None:
    spelled = ["net@a/one/w.pt", "net@b/two/w.pt", "other@c/w.pt", "net@d/v.pt"]
    assert list(short_names(spelled).values()) == [
        "net@one/w.pt",
        "net@two/w.pt",
        "other@w.pt",
        "net@v.pt",
    ]


def test_a_file_beside_one_in_a_folder_keeps_its_name() -> None:
    found = short_names(["net@w.pt", "net@/data/w.pt"])
    assert found == {"net@w.pt": "net@w.pt", "net@/data/w.pt": "net@data/w.pt"}


def test_what_no_path_tells_apart_in_an_id_is_spelt_otherwise() -> None:
    found = short_names(["net@a-b.pt", "net@a/b.pt", "net@c/b.pt"])
    assert found["net@a-b.pt"] == "net@a-b.pt"
    assert found["net@a/b.pt"] == "net@a%2Fb.pt"
    assert found["net@c/b.pt"] == "net@c/b.pt"


def test_ids_have_no_slash() -> None:
    assert id_part("net@one/w.pt") == "net@one-w.pt"


paths = st.lists(st.sampled_from(["a", "b", "a-b", "..", ""]), min_size=1, max_size=4).map("/".join)
spellings = st.one_of(st.sampled_from(["net", "other", "a/b", "a-b"]), paths.map("net@{}".format))


@given(st.lists(spellings, unique=True, max_size=8))
def test_names_and_ids_are_unique_whatever_the_paths(spelled: list[str]) -> None:
    found = short_names(spelled)
    assert list(found) == spelled
    assert len({id_part(name) for name in found.values()}) == len(spelled)
    assert len(set(found.values())) == len(spelled)
    assert not any("/" in id_part(name) for name in found.values())
