from __future__ import annotations

from typing import Any

import pytest

from trainable.errors import SpecError
from trainable.spec.augmentation import MAX_VIEWS, Augmentation


def with_views(views: Any) -> Augmentation:
    return Augmentation.parse({"ops": ["rotation"], "views": views})


@pytest.mark.parametrize(
    ("num_images", "views"), [(3840, 1), (3841, 1), (3839, 2), (200, 20), (50, MAX_VIEWS), (1, 64)]
)
def test_automatic_views_of_an_image_are_about_as_many_as_it_is_drawn(
    num_images: int, views: int
) -> None:
    found = with_views("auto").resolved(num_images=num_images, num_drawn=3840)
    assert found == with_views(views)


def test_a_number_of_views_stays() -> None:
    assert with_views(4).resolved(num_images=1, num_drawn=3840) == with_views(4)
    assert (with_views(4).num_views, with_views("auto").num_views) == (4, MAX_VIEWS)


@pytest.mark.parametrize("views", [0, 65, 2.5, "many", True, None])
def test_other_views_are_refused(views: Any) -> None:
    with pytest.raises(SpecError, match=r"augment\.views: got .*; allowed: .* from 1 to 64, or au"):
        with_views(views)
