"""`sft-sweep predict`: classify images or texts with an exported network.

It needs `trainable` alone, and neither Ray, Optuna nor Parquet, unless texts lie in a table.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.arguments import Json

if TYPE_CHECKING:
    from trainable.export.exported_model import Given, Prediction

DEFAULT_TOP = 3
"""Classes shown for each example in the table."""

SOME_FAILED = 3

_STDIN = "-"


def predict(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that sft-sweep export wrote.")
    ],
    examples: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXAMPLE...",
            help=(
                "Files of pictures, or texts as they are. - stands for standard input with a text "
                "on each line, which is read where texts are piped in and nothing else is given."
            ),
        ),
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Texts: a file with a text on each line, or a table (CSV, TSV, JSON, Parquet).",
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            "--text-column", metavar="NAME", help="Texts: the column of a table; left out, text."
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            metavar="NAME",
            help="Texts: of the file or standard input, such as latin-1; left out, UTF-8.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            help="Masks: the folder that they are written to, with a table of their classes.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=1,
            metavar="K",
            help=f"Classes for each example; left out, {DEFAULT_TOP}, and all with --json.",
        ),
    ] = None,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code",
            help="Import and run the code of your own that builds the network, as model.json says.",
        ),
    ] = False,
    json: Json = False,
) -> int:
    r"""Classify pictures or texts with an exported network, or predict masks of pictures.

    What cannot be read is told and left out.

    \b
    Examples:
      sft-sweep predict model photo.jpg
      sft-sweep predict model photos/*.jpg --top 1
      sft-sweep predict model photos/*.jpg -o masks
      sft-sweep predict model "where is my card" "I lost my phone" --json
      sft-sweep predict model --file questions.txt
      sft-sweep predict model --file questions.csv --text-column question
      tail -n 20 questions.txt | sft-sweep predict model
    """
    from orchestrator.errors import UsageError
    from orchestrator.text import printable
    from trainable.export.exported_model import ExportedModel
    from trainable.export.model_config import read_about

    about = read_about(folder)
    kind = _KINDS[about.modality]
    if bool(about.heads) != (out is not None):
        raise UsageError(
            "-o: missing; this network predicts masks: name a folder for them"
            if about.heads
            else "-o: is for masks; this network predicts classes, which are printed"
        )
    asked = _Asked(examples or [], file=file, text_column=text_column, encoding=encoding)
    given = kind.given(asked)
    model = ExportedModel.load(folder, trust_code=trust_code)
    if out is not None:
        from orchestrator.cli.output.mask_files import show_masks

        failed = show_masks(model, [Path(one.name) for one in given], out, json=json)
        return SOME_FAILED if failed else 0
    found = list(model.predict([one.example for one in given]))
    for one, prediction in zip(given, found, strict=True):
        told = prediction.problem or prediction.note
        if told is not None:
            print(printable(f"{one.name}: {told}"), file=sys.stderr)
    names = model.about.class_names
    if json:
        print(jsonlib.dumps([_as_json(one, names, top, key=kind.key) for one in found]))
    else:
        _show(found, names, DEFAULT_TOP if top is None else top, kind=kind)
    return SOME_FAILED if any(one.problem is not None for one in found) else 0


@dataclass(frozen=True)
class _Asked:
    """What the command line names."""

    examples: Sequence[str]
    file: Path | None = None
    text_column: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class _Named:
    """An example, and what messages call it."""

    name: str
    example: Given


def _images(asked: _Asked) -> list[_Named]:
    """Return paths of images.

    Raises:
        UsageError: something else is asked for.
    """
    from orchestrator.errors import UsageError

    for option, value in {
        "--file": asked.file,
        "--text-column": asked.text_column,
        "--encoding": asked.encoding,
    }.items():
        if value is not None:
            raise UsageError(f"{option}: is for texts; this network takes files of images")
    if not asked.examples:
        raise UsageError("EXAMPLE...: got nothing; this network takes files of images: name some")
    return [_Named(path, Path(path)) for path in asked.examples]


def _texts(asked: _Asked) -> list[_Named]:
    """Return texts: arguments, or those of a file or of standard input.

    Raises:
        UsageError: there are none, or they cannot be read.
    """
    from orchestrator.datasets.unlabelled_texts import texts_of_file, texts_of_lines
    from orchestrator.errors import UsageError

    if asked.file is not None and asked.examples:
        raise UsageError("--file: texts are given, too; give the one or the others")
    if _STDIN in asked.examples and len(asked.examples) > 1:
        raise UsageError(f"{_STDIN}: stands for standard input; give it alone")
    if asked.text_column is not None and asked.file is None:
        raise UsageError("--text-column: there is no table; name it with --file")
    if asked.file is not None:
        found = texts_of_file(asked.file, column=asked.text_column, encoding=asked.encoding)
    elif list(asked.examples) == [_STDIN] or not (asked.examples or sys.stdin.isatty()):
        content = sys.stdin.buffer.read()
        found = texts_of_lines(content, where="standard input", encoding=asked.encoding)
    else:
        _refuse_files(asked.examples)
        return [_Named(f"text {n}", text) for n, text in enumerate(asked.examples, 1)]
    if not found:
        raise UsageError(f"{asked.file or 'standard input'}: holds no text")
    return [_Named(one.name, one.text) for one in found]


def _refuse_files(examples: Sequence[str]) -> None:
    """Refuse what is more likely the name of a file than a text.

    Raises:
        UsageError: there is a file of that name, or no text at all.
    """
    from orchestrator.errors import UsageError

    if not examples:
        raise UsageError(
            "EXAMPLE...: got nothing; this network takes texts: write some, name a file with "
            "--file, or pipe them in"
        )
    for one in examples:
        if _is_file(one):
            raise UsageError(
                f"{one}: is a file; this network takes texts: write the text itself, or --file "
                f"{one} for a file of texts"
            )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than any name, or no name at all
        return False


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How examples of one modality are named and shown.

    Attributes:
        given: reads those that the command line names.
        noun: what one is called.
        key: its key in JSON.
        most_characters: so many of it are shown in the table; None for all.
    """

    given: Callable[[_Asked], list[_Named]]
    noun: str
    key: str
    most_characters: int | None = None

    def shown(self, example: Given) -> str:
        """Return an example as the table shows it."""
        from orchestrator.text import printable

        text = printable(str(example))
        most = self.most_characters
        return text if most is None or len(text) <= most else f"{text[: most - 3]}..."


_KINDS: Mapping[str, _Kind] = {
    "image": _Kind(given=_images, noun="image", key="path"),
    "text": _Kind(given=_texts, noun="text", key="text", most_characters=80),
}


def _as_json(one: Prediction, names: Sequence[str], top: int | None, *, key: str) -> dict[str, Any]:
    given = {key: str(one.example)}
    if one.problem is not None:
        return {**given, "error": one.problem}
    classes = [
        {"class": names[number], "probability": share} for number, share in one.ranked()[:top]
    ]
    note = {} if one.note is None else {"note": one.note}
    return {**given, **note, "classes": classes}


def _show(found: Sequence[Prediction], names: Sequence[str], top: int, *, kind: _Kind) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from orchestrator.cli.output.render import print_rich
    from orchestrator.text import printable

    classified = [one for one in found if one.problem is None]
    if not classified:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(kind.noun)
    table.add_column("class")
    table.add_column("probability", justify="right")
    for one in classified:
        for place, (number, share) in enumerate(one.ranked()[:top]):
            example = "" if place else kind.shown(one.example)
            table.add_row(example, printable(names[number]), f"{share:.4f}")
    print_rich(table)
