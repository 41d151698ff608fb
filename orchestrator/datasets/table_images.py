"""Rows of a table as images: each has the path of a file, which has to lie below one folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from orchestrator.datasets.files import FETCH, FOLLOW, Refusal, Root, file_reader
from orchestrator.datasets.listing import Contents, Note
from orchestrator.datasets.name_keys import alike, escaped, likeness
from orchestrator.datasets.sections import TableSection
from orchestrator.datasets.table_paths import Speller, are_most, by_ending, remedies, spelled
from orchestrator.space.problems import Problems, some
from trainable.spec.refusals import shown

_PATHS = ("dataset", "path_column")
_MOST_SOUGHT = 5
"""Paths for which files that look alike are looked for."""
_WITH_ROOT = (Refusal.OUTSIDE, Refusal.LINKED)
_ELSEWHERE = (Refusal.OUTSIDE, Refusal.MISSING)
_WHAT_TO_DO = {Refusal.DEAD: FETCH, Refusal.LINKED: FOLLOW}


def images_at(
    paths: Sequence[str], section: TableSection, root: Root, problems: Problems
) -> Contents:
    """The images that the paths of a table lead to; what is wrong with them goes to the problems.

    Args:
        paths: N values of the path column.
        section: how the paths are to be matched.
        root: where the files have to lie.
        problems: takes what is wrong.
    """
    mended, notes = _files_of(list(paths), section, root, problems)
    return Contents(paths=mended, read=file_reader(root.path, mended), notes=tuple(notes))


def _files_of(
    paths: list[str], section: TableSection, root: Root, problems: Problems
) -> tuple[list[str], list[Note]]:
    """The paths as they lead to files, and what was made of them.

    Problems for files that are missing, lie outside the root or are named twice.
    """
    mend = spelled if section.match is None else by_ending
    paths, notes = mend(paths, list(_refused(paths, root)), root)
    refused = _refused(paths, root)
    by_reason: dict[Refusal, list[str]] = {}
    for path in paths:
        if path in refused:
            by_reason.setdefault(refused[path], []).append(path)
    elsewhere = [path for path, reason in refused.items() if reason in _ELSEWHERE]
    told = [one.says(len(paths)) for one in remedies(paths, elsewhere, root)]
    for reason, bad in by_reason.items():
        where = f" {root.path}" if reason in _WITH_ROOT else ""
        hints = [_WHAT_TO_DO[reason]] if reason in _WHAT_TO_DO else []
        if reason in _ELSEWHERE:
            twins = _twins(bad, root)
            few = not are_most(len(elsewhere), len(paths))  # of which files nearby say more
            hints += twins or told if few else told or twins
            told = []
        problems.add(
            _PATHS,
            "; ".join(
                [
                    f"{len(bad):,} of {len(paths):,} {reason}{where}: {some(bad)}",
                    *(hints or [_advice(len(bad), len(paths), root)]),
                ]
            ),
        )
    return paths, notes + _check_twice(paths, root, problems)


def _advice(num_bad: int, num_paths: int, root: Root) -> str:
    """What to do about paths of which no more is known than that they cannot be read."""
    if are_most(num_bad, num_paths):
        return f"images are looked for in {root.path}; name another folder in dataset.root"
    return (
        f"put them into {root.path} and name them by their paths in it, or take their rows out of "
        "the table"
    )


def _refused(paths: list[str], root: Root) -> dict[str, Refusal]:
    """Why paths lead to no file that may be read, for those that do not, in their order."""
    found = ((path, root.refusal(path)) for path in dict.fromkeys(paths))
    return {path: reason for path, reason in found if reason is not None}


def _check_twice(paths: list[str], root: Root, problems: Problems) -> list[Note]:
    """A problem for files that are named twice, and a note of those whose names look alike."""
    twice = [path for path, count in Counter(paths).items() if count > 1]
    notes = []
    for members in alike(paths, key=lambda path: likeness(os.path.normpath(path))):
        if len({root.identity(path) for path in members}) < len(members):
            twice += members
        else:
            notes.append(escaped(members))
    if twice:
        problems.add(
            _PATHS, f"paths in several rows, though an image has one label: {escaped(twice)}"
        )
    if not notes:
        return []
    return [Note(f"paths that look alike, each with a file of its own: {len(notes):,}", (*notes,))]


def _twins(paths: list[str], root: Root) -> list[str]:
    """What a problem line adds where files lie there that some of those it names may mean."""
    speller = Speller(root)
    found, several = [], []
    for path in paths[:_MOST_SOUGHT]:
        meant = speller.spell(path)
        twin = root.twin(path.replace("\\", "/")) if meant is None else meant[0]
        if twin is not None:
            found.append(f"{twin!a} for {path!a}")
        elif rivals := speller.rivals(path):
            several.append(f"{some(rivals)} for {shown(path)}")
    hints = [f"there are files that look alike: {', '.join(found)}"] if found else []
    return hints + ([f"there are several files for one path: {several[0]}"] if several else [])
