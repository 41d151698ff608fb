"""Which split each example is in: the data's own, or one drawn from content or groups alone."""

from __future__ import annotations

import numpy as np

from orchestrator.datasets.listing import Ints, Listing, Note
from orchestrator.datasets.splits import content_uniform, share_of_groups, test_key
from orchestrator.space import DEFAULT_TEST_SHARE
from trainable.data.labelled_examples import Split


class SplitAssigner:
    """Assigns the images of a listing to splits while they are read.

    The data's own test split is used if there is one and no share is given. Otherwise each image
    is drawn by its content, or by the name of its group, so that it stays in its split when others
    are added.

    Args:
        listing: the images.
        share: share of the images in the test split; None for the data's own, or else the default.
        seed: seed of the sweep.
        keep_val: whether the data's own validation split stays apart; else it joins the pool.

    Attributes:
        split: (N,) values of `Split`; complete after `place` was called for every readable image.
        is_own: whether the test split is the data's own.
        notes: the decisions in words.
    """

    def __init__(self, listing: Listing, *, share: float | None, seed: int, keep_val: bool) -> None:
        own = np.zeros(len(listing.paths), np.int64) if listing.split is None else listing.split
        self.split: Ints = np.full(len(own), Split.POOL, dtype=np.int64)
        self.is_own = share is None and bool((own == Split.TEST).any())
        self._share = DEFAULT_TEST_SHARE if share is None else share
        self._key = test_key(seed)
        self._noun = listing.modality
        self._by_content = not self.is_own and listing.groups is None
        if self.is_own:
            self.split[own == Split.TEST] = Split.TEST
        elif listing.groups is not None:
            drawn = share_of_groups(listing.group_names, share=self._share, seed=seed)
            self.split[drawn[listing.groups]] = Split.TEST
        if keep_val:
            self.split[own == Split.VAL] = Split.VAL
        # Bytes, because indexing one row of an array takes longer than the draw itself.
        self._apart = bytearray((self.split != Split.POOL).tobytes())
        self.notes = self._notes(own, grouped=listing.groups is not None, keep_val=keep_val)

    def place(self, row: int, digest: bytes) -> bool:
        """Put an example into its split; whether that is another one than the pool.

        Args:
            row: of the example.
            digest: equal for its copies.
        """
        apart = self._apart
        if self._by_content and not apart[row]:
            apart[row] = content_uniform(digest, key=self._key) < self._share
            if apart[row]:
                self.split[row] = Split.TEST
        return bool(apart[row])

    def _notes(self, own: Ints, *, grouped: bool, keep_val: bool) -> list[Note]:
        num_val, num_test = int((own == Split.VAL).sum()), int((own == Split.TEST).sum())
        by = "groups" if grouped else "content"
        notes = [
            Note(f"test split: the data's own, {num_test:,} {self._noun}s")
            if self.is_own
            else Note(f"test split: a share of {self._share:g}, drawn by {by} and seed")
        ]
        if num_test and not self.is_own:
            notes.append(
                Note(f"the data's own test split, {num_test:,} {self._noun}s, joins the rest")
            )
        if num_val and not keep_val:
            notes.append(
                Note(f"the data's own val split, {num_val:,} {self._noun}s, joins the pool")
            )
        return notes
