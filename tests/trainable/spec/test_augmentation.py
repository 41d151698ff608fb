from __future__ import annotations

import math
from typing import Any

import pytest

from trainable.errors import SpecError
from trainable.spec.augmentation import MAX_VIEWS, Augmentation


def with_views(views: Any) -> Augmentation:
    return Augmentation.parse({"ops": ["rotation"], "views": views})


@pytest.mark.parametrize(
    ("num_images", "views"),
    [(1, 64), (25, 64), (26, 62), (50, 32), (199, 9), (200, 8), (5000, 8)],
)
def test_few_images_have_many_automatic_views(num_images: int, views: int) -> None:
    assert with_views("auto").resolved(num_images) == with_views(views)


def test_a_number_of_views_stays() -> None:
    assert with_views(4).resolved(1) == with_views(4)
    assert (with_views(4).num_views, with_views("auto").num_views) == (4, MAX_VIEWS)


@pytest.mark.parametrize("views", [0, 65, 2.5, math.nan, math.inf, "many", True, None])
def test_other_views_are_refused(views: Any) -> None:
    message = r"augment\.views: got .*; allowed: .* from 1 to 64 or auto"
    with pytest.raises(SpecError, match=message):
        with_views(views)
