"""Usage of an exported network for texts: Python that needs transformers alone, or torch."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.reading.export.file_table import file_table
from orchestrator.reading.export.markdown import escaped
from trainable.backbones.weights import TextPreprocessing
from trainable.export.exchange_formats import ONNX_FILE, TORCH_FILE
from trainable.export.graph_files import GRAPH_FILE, HEAD_FILE, REST_FILE
from trainable.export.model_config import ModelConfig
from trainable.export.text_networks import TOKENIZER_FILE
from trainable.export.written_model import Written
from trainable.modalities.text.tokenizing import HEAD_SHARE

_GRAPH_FILES = {
    GRAPH_FILE: "the whole network as operators of PyTorch, which `sft-sweep predict` computes",
    TOKENIZER_FILE: "the tokenizer, as it came with the pretrained weights",
    "model.json": "preprocessing and class names",
    TORCH_FILE: "the whole network for `torch.export.load`",
    ONNX_FILE: "the whole network in ONNX: `tokens` and `mask` (N, L), whole numbers, to `logits`",
}
_ENCODER_FILES = {
    "model.safetensors, config.json": "the fine-tuned encoder for transformers",
    HEAD_FILE: "the linear layer behind it",
    REST_FILE: "constants of the network, where it has any",
}
_REST_FILES = {REST_FILE: "all weights of the network"}

_START = """\
folder = Path(".")  # where this card lies
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
"""
_POOLED = {
    "mean": (
        "weights = mask.unsqueeze(-1).to(states.dtype)\n"
        "pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1)\n"
    ),
    "cls": "pooled = states[:, 0]\n",
    "last": "pooled = states[torch.arange(len(states)), mask.sum(1) - 1]\n",
    "max": (
        "lowest = torch.finfo(states.dtype).min\n"
        "pooled = states.masked_fill(mask.unsqueeze(-1) == 0, lowest).amax(1)\n"
    ),
}
_PRINT = """\
texts = sys.argv[1:]
with torch.no_grad():
    shares = classify(texts).softmax(dim=1)
for text, row in zip(texts, shares):
    best = int(row.argmax())
    print(f"{text!r}\\t{about['class_names'][best]!r}\\t{row[best]:.4f}")
"""


def use_lines(about: ModelConfig, written: Written) -> list[str]:
    """Return the section of a card about the use of the network."""
    own = _REST_FILES if written.library.options is None else _ENCODER_FILES
    return [
        *("    sft-sweep predict DIR TEXT...", ""),
        *_python(about, written),
        *("", *file_table(own | _GRAPH_FILES, written)),
    ]


def _python(about: ModelConfig, written: Written) -> list[str]:
    problem, how = written.library.problem, about.text_preprocessing
    told = []
    if problem is not None:
        told = [f"transformers cannot load this network: {escaped(problem)}.", ""]
    form = _form(how, written)
    if form is None:
        return [
            *told,
            "`sft-sweep predict` computes it, and in Python "
            "`trainable.export.exported_model.ExportedModel.load(Path(DIR))`.",
        ]
    code = (
        f"import json\nimport sys\nfrom pathlib import Path\n\nimport torch\n{form.imports}\n"
        f"{_START}{form.load}{_tokenizer(how)}\n\n"
        f"def classify(texts):\n{_indented(_tokens(how) + form.run)}\n\n{_PRINT}"
    )
    return [
        *told,
        f"Without sft-sweep, with {form.needs}:",
        *("", "```python", *code.rstrip("\n").split("\n"), "```"),
    ]


@dataclass(frozen=True, kw_only=True)
class _Form:
    """Code for one form of a network.

    Attributes:
        needs: libraries, in words.
        imports: of those beside torch.
        load: makes the network from `folder`.
        run: returns logits of `tokens` and `mask`.
    """

    needs: str
    imports: str
    load: str
    run: str


def _form(how: TextPreprocessing, written: Written) -> _Form | None:
    """The form that needs least; None if no library alone has the network."""
    tokenizers = "from tokenizers import Tokenizer\n"
    if written.library.options is not None:
        auto_class = str(written.library.options["auto_class"])
        return _Form(
            needs="transformers alone, which brings tokenizers and safetensors",
            imports=f"from safetensors.torch import load_file\n{tokenizers}"
            f"from transformers import {auto_class}\n",
            load=f"encoder = {auto_class}.from_pretrained(folder).eval()\n"
            f'head = load_file(folder / "{HEAD_FILE}")\n',
            run=_run_encoder(how),
        )
    if written.has(TORCH_FILE):
        return _Form(
            needs="torch and tokenizers alone",
            imports=tokenizers,
            load=f'model = torch.export.load(folder / "{TORCH_FILE}").module()\n',
            run="return model(tokens, mask)\n",
        )
    return None


def _run_encoder(how: TextPreprocessing) -> str:
    normalized = "pooled = torch.nn.functional.normalize(pooled, dim=1)\n" if how.normalize else ""
    return (
        "states = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state\n"
        f"{_POOLED[how.pooling]}{normalized}"
        'return torch.nn.functional.linear(pooled, head["weight"], head["bias"])\n'
    )


def _tokenizer(how: TextPreprocessing) -> str:
    load = f'tokenizer = Tokenizer.from_file(str(folder / "{TOKENIZER_FILE}"))\n'
    if HEAD_SHARE[how.truncate] == 1:
        return (
            f"{load}tokenizer.enable_truncation({how.max_length})\n"
            f"tokenizer.enable_padding(pad_id={how.pad_id})\n"
        )
    return (
        f"{load}tokenizer.no_truncation()\ntokenizer.no_padding()\n"
        f"prompt = tokenizer.encode({how.prompt.strip()!a}).special_tokens_mask.count(0)\n\n\n"
        "def cut(one):  # a text that is too long keeps its beginning and its end\n"
        "    special = [n for n, mark in enumerate(one.special_tokens_mask) if mark]\n"
        "    own = [n for n, mark in enumerate(one.special_tokens_mask) if not mark]\n"
        f"    room = {how.max_length} - len(special)\n"
        "    if len(own) <= room:\n"
        "        return torch.tensor(one.ids)\n"
        f"    start = prompt + int((room - prompt) * {HEAD_SHARE[how.truncate]})\n"
        "    kept = sorted(special + own[:start] + own[len(own) - room + start :])\n"
        "    return torch.tensor([one.ids[n] for n in kept])\n"
    )


def _tokens(how: TextPreprocessing) -> str:
    prompt = f"{how.prompt!a} + " if how.prompt else ""
    text = f"({prompt}text).strip()" if prompt else "text.strip()"
    lower = ".lower()" if how.lowercase else ""
    encode = f"encoded = tokenizer.encode_batch([{text}{lower} for text in texts])\n"
    if HEAD_SHARE[how.truncate] == 1:
        return (
            f"{encode}tokens = torch.tensor([one.ids for one in encoded])\n"
            "mask = torch.tensor([one.attention_mask for one in encoded])\n"
        )
    return (
        f"{encode}rows = [cut(one) for one in encoded]\n"
        "fill = torch.nn.utils.rnn.pad_sequence\n"
        f"tokens = fill(rows, batch_first=True, padding_value={how.pad_id})\n"
        "mask = fill([torch.ones_like(row) for row in rows], batch_first=True)\n"
    )


def _indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())
