"""Classification data sets of torchvision.datasets that lie on this machine."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from orchestrator.datasets.files import read_file
from orchestrator.datasets.listing import Ints, Listing
from orchestrator.datasets.sections import TorchvisionSection
from orchestrator.datasets.splits import split_of
from orchestrator.space.problems import Problems
from trainable.data.labelled_examples import Split
from trainable.errors import DataError
from trainable.spec.refusals import did_you_mean, shown

_NAME = ("dataset", "name")
_ROOT = ("dataset", "root")
_SPLIT_WORDS = ("train", "trainval", "val", "valid", "test")
_FILES = ("samples", "_samples", "imgs", "_image_files", "_images", "_image_paths")
_UNSAFE = ("LSUN", "LSUNClass")
_LABELS = ("targets", "_labels", "labels", "y", "_targets")


@dataclass(frozen=True)
class _Part:
    """One split of a data set.

    Attributes:
        name: name of the split, or of the data set if it has no splits.
        split: the split that its images join.
        dataset: torchvision's object.
        files: paths of the image files, or None if it has none.
        labels: class ids.
    """

    name: str
    split: Split
    dataset: Any
    files: Sequence[str] | None
    labels: Sequence[int]


def list_images(section: TorchvisionSection, problems: Problems) -> Listing | None:
    """List the images of every split; add problems if they are not usable.

    Images with files of their own are read from these. Others are decoded by torchvision and
    encoded as PGM or PPM, which have exactly one encoding in every version of Pillow, or as PNG
    if they are neither grey nor RGB.
    """
    build = _find(section.name, problems)
    if build is None:
        return None
    parts: list[_Part] = []
    try:
        for name, split, options in _variants(build, section):
            dataset = _build(build, name, options)
            if dataset is not None:
                parts.append(_part(name, split, dataset))
    except _NotThereError as error:
        problems.add(_ROOT, str(error))
        return None
    except _NotServedError as error:
        problems.add(_NAME, f"{section.name} {error}")
        return None
    if not parts:
        problems.add(_NAME, f"{section.name} has no split that is called {', '.join(_SPLIT_WORDS)}")
        return None
    names = [_class_names(part, parts) for part in parts]
    labels = [of[label] for part, of in zip(parts, names, strict=True) for label in part.labels]
    present = set(labels)
    ordered = dict.fromkeys(name for of in names for name in of.values())
    return Listing.of(
        paths=tuple(f"{part.name}/{i}" for part in parts for i in range(len(part.labels))),
        labels=labels,
        splits=[part.split for part in parts for _ in part.labels] if len(parts) > 1 else None,
        groups=None,
        read=lambda rows: _read(parts, rows),
        class_names=[name for name in ordered if name in present],
    )


class _NotThereError(Exception):
    """The files of the data set are not where they should be."""


class _NotServedError(Exception):
    """The data set is not supported: it does not have one label per image."""


def _find(name: str, problems: Problems) -> Any:
    from torchvision import datasets

    if name in _UNSAFE:
        problems.add(
            _NAME,
            f"{name} unpickles whatever `_cache_...` lies where it is started, and a pickle can "
            "run code; write its images into folders, and use dataset.source: folder",
        )
        return None
    known = [
        word
        for word in datasets.__all__
        if inspect.isclass(getattr(datasets, word)) and word not in ("VisionDataset", "FakeData")
    ]
    if name in known:
        return getattr(datasets, name)
    hint = did_you_mean(name, known)
    problems.add(_NAME, f"got {shown(name)}; allowed: a class of torchvision.datasets{hint}")
    return None


def _variants(
    build: Any, section: TorchvisionSection
) -> Iterator[tuple[str, Split, dict[str, Any]]]:
    """Yield the splits that the constructor may have, with its arguments."""
    takes = inspect.signature(build).parameters
    given: dict[str, Any] = {"root": section.root}
    if "download" in takes:
        given["download"] = section.download
    needed = [
        key
        for key, one in takes.items()
        if one.default is one.empty
        and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        and key not in ("root", "split", "train")
    ]
    if needed or "root" not in takes:
        raise _NotServedError(f"needs arguments that a file cannot give: {', '.join(needed)}")
    if "train" in takes and "split" not in takes:
        yield "train", Split.POOL, {**given, "train": True}
        yield "test", Split.TEST, {**given, "train": False}
    elif "split" in takes:
        for word in _SPLIT_WORDS:
            yield word, split_of(word) or Split.POOL, {**given, "split": word}
    else:
        yield section.name, Split.POOL, given


def _build(build: Any, name: str, options: dict[str, Any]) -> Any:
    """Build the data set; None if it has no split of this name."""
    try:
        return build(**options)
    except (RuntimeError, OSError) as error:
        at = shown(options["root"])
        raise _NotThereError(
            f"{build.__name__} is not in {at} ({' '.join(str(error).split())}); put its files "
            "there, or set dataset.download: true"
        ) from None
    except ImportError as error:
        raise _NotServedError(f"needs a package that is not installed: {error}") from None
    except (ValueError, TypeError) as error:
        if "split" in options and "split" in str(error):
            return None
        raise _NotServedError(f"cannot be built for {name}: {error}") from None


def _part(name: str, split: Split, dataset: Any) -> _Part:
    files: Sequence[str] | None = None
    labels: Any = None
    for attribute in _FILES:
        items = getattr(dataset, attribute, None)
        if isinstance(items, list | tuple) and len(items) == len(dataset) and len(items):
            if isinstance(items[0], tuple) and len(items[0]) == 2:
                files, labels = [str(item[0]) for item in items], [item[1] for item in items]
            elif isinstance(items[0], str | Path):
                files = [str(item) for item in items]
            break
    for attribute in _LABELS if labels is None else ():
        found = getattr(dataset, attribute, None)
        if found is not None and not callable(found) and len(found) == len(dataset):
            labels = found
            break
    if labels is None:  # then only the items themselves have it
        labels = [dataset[i][1] for i in range(len(dataset))]
    try:
        return _Part(name, split, dataset, files, [int(label) for label in labels])
    except (TypeError, ValueError):
        raise _NotServedError("has no whole number as the label of an image") from None


def _class_names(part: _Part, parts: list[_Part]) -> dict[int, str]:
    """Return a distinct name per class id of a split, from its own list if that is complete.

    Splits with equal lists are named together: a split made of folders has a list of its own,
    which lacks the classes without a folder there.
    """
    own = _own_names(part)
    ids = sorted({i for other in parts if _own_names(other) == own for i in other.labels})
    if not ids or ids[0] < 0 or ids[-1] >= len(own):
        return {label: str(label) for label in ids}
    names = {
        label: ", ".join(own[label]) if isinstance(own[label], tuple) else str(own[label])
        for label in ids
    }
    spelled = [name.casefold() for name in names.values()]
    return {  # ImageNet has two cranes
        label: f"{name} ({label})" if spelled.count(name.casefold()) > 1 else name
        for label, name in names.items()
    }


def _own_names(part: _Part) -> list[Any]:
    """Return the data set's own list of classes, or an empty list."""
    return next(
        (
            list(names)
            for attribute in ("classes", "categories")
            if isinstance(names := getattr(part.dataset, attribute, None), list | tuple)
        ),
        [],
    )


def _read(parts: list[_Part], rows: Ints) -> Iterator[bytes | DataError]:
    start = 0
    for part in parts:
        stop = start + len(part.labels)
        for row in rows[(rows >= start) & (rows < stop)]:
            yield _encoded(part, int(row) - start)
        start = stop


def _encoded(part: _Part, row: int) -> bytes | DataError:
    if part.files is not None:
        return read_file(part.files[row])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = part.dataset[row][0]
    except Exception as error:  # readers of data sets raise arbitrary errors
        return DataError(f"cannot be read: {error}")
    if not isinstance(picture, Image.Image):
        return DataError(f"is no picture, but {type(picture).__name__}")
    content = io.BytesIO()
    picture.save(content, "PPM" if picture.mode in ("L", "RGB") else "PNG")
    return content.getvalue()
