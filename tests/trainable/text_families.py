"""One small random encoder of many families that Transformers has, as networks to be exported.

Small in width and depth; the code is that of Transformers. Nothing is read or downloaded.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainable.backbones.graphs.exporting import export
from trainable.backbones.graphs.graph import TracedBackbone

VOCABULARY = 99
LENGTH = 24

_SMALL: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 160,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
_GROUPED: Mapping[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}

FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bert": ("bert", {}),
    "distilbert": ("distilbert", {"hidden_dim": 48}),
    "roberta": ("roberta", {"pad_token_id": 1, "bos_token_id": 0}),
    "gpt2": ("gpt2", {}),
    "t5": ("t5", {"d_kv": 8, "d_ff": 48}),
    "deberta-v2": (
        "deberta-v2",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
}
"""Those of the default suite, by name: what `AutoConfig.for_model` takes beside the small sizes."""

MORE_FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "albert": ("albert", {"embedding_size": 16}),
    "bert-eager": ("bert", {"attn_implementation": "eager"}),
    "bert-relu": ("bert", {"hidden_act": "relu"}),
    "big_bird": ("big_bird", {"attention_type": "original_full"}),
    "bloom": ("bloom", {}),
    "camembert": ("camembert", {"pad_token_id": 1, "bos_token_id": 0}),
    "convbert": ("convbert", {"embedding_size": 16}),
    "data2vec-text": ("data2vec-text", {"pad_token_id": 1, "bos_token_id": 0}),
    "deberta": (
        "deberta",
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 32},
    ),
    "deberta-v2-conv": (
        "deberta-v2",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "conv_kernel_size": 3,
            "conv_act": "gelu",
        },
    ),
    "electra": ("electra", {"embedding_size": 16}),
    "ernie": ("ernie", {}),
    "esm": ("esm", {"pad_token_id": 1, "mask_token_id": 3, "position_embedding_type": "rotary"}),
    "eurobert": ("eurobert", _GROUPED),
    "falcon": ("falcon", {}),
    "fnet": ("fnet", {}),
    "funnel": (
        "funnel",
        {
            "block_sizes": [1, 1],
            "d_head": 8,
            "num_hidden_layers": None,
            "architectures": ["FunnelModel"],
        },
    ),
    "gemma": ("gemma", _GROUPED),
    "gemma2": ("gemma2", _GROUPED),
    "gemma3_text": ("gemma3_text", _GROUPED),
    "gpt_neo": (
        "gpt_neo",
        {"attention_types": [[["global", "local", "global"], 1]], "window_size": 8},
    ),
    "gpt_neox": ("gpt_neox", {}),
    "gptj": ("gptj", {"rotary_dim": 4, "n_embd": 32, "n_head": 4, "n_layer": 2}),
    "ibert": ("ibert", {"pad_token_id": 1, "bos_token_id": 0}),
    "layoutlm": ("layoutlm", {}),
    "llama": ("llama", _GROUPED),
    "mamba": ("mamba", {"state_size": 4}),
    "megatron-bert": ("megatron-bert", {}),
    "mistral": ("mistral", _GROUPED),
    "mobilebert": (
        "mobilebert",
        {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    ),
    "modernbert": ("modernbert", {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "mpnet": ("mpnet", {"pad_token_id": 1, "bos_token_id": 0}),
    "mra": ("mra", {}),
    "mt5": ("mt5", {"d_kv": 8, "d_ff": 48}),
    "nystromformer": ("nystromformer", {"num_landmarks": 4, "segment_means_seq_len": 4}),
    "olmo": ("olmo", {}),
    "opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "phi": ("phi", {}),
    "qwen2": ("qwen2", _GROUPED),
    "qwen3": ("qwen3", _GROUPED),
    "rembert": ("rembert", {"input_embedding_size": 16, "output_embedding_size": 16}),
    "roberta-prelayernorm": ("roberta-prelayernorm", {"pad_token_id": 1, "bos_token_id": 0}),
    "roformer": ("roformer", {"embedding_size": 16}),
    "splinter": ("splinter", {}),
    "squeezebert": ("squeezebert", {"embedding_size": 32}),
    "starcoder2": ("starcoder2", _GROUPED),
    "stablelm": ("stablelm", {"num_key_value_heads": 4}),
    "umt5": ("umt5", {"d_kv": 8, "d_ff": 48}),
    "xglm": ("xglm", {"d_model": 32, "ffn_dim": 48, "attention_heads": 4, "num_layers": 2}),
    "xlm": ("xlm", {"emb_dim": 32, "n_heads": 4, "n_layers": 2, "pad_index": 2}),
    "xlm-roberta": ("xlm-roberta", {"pad_token_id": 1, "bos_token_id": 0}),
    "xlm-roberta-xl": ("xlm-roberta-xl", {"pad_token_id": 1, "bos_token_id": 0}),
    "xlnet": ("xlnet", {"d_head": 8, "d_inner": 48, "max_position_embeddings": None}),
    "yoso": ("yoso", {"use_expectation": True}),
}

REFUSED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "longformer": ("longformer", {"attention_window": 8, "pad_token_id": 1}),
    "reformer": (
        "reformer",
        {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [4, 6], "is_decoder": True},
    ),
}
"""Those that torch.export cannot follow."""

OWN_BACKWARD = frozenset({"yoso"})
"""Those whose gradients are no derivatives, but computed by rules of their own."""

WITHOUT_DROPOUT = frozenset({"ibert", "mamba", "xlnet"})
"""Those whose train mode is another graph."""


class MeanPooled(nn.Module):
    """The mean of an encoder's last hidden states over the tokens of a text."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, L) tokens and mask -> (N, D) features."""
        hidden: Tensor = self.encoder(input_ids=tokens, attention_mask=mask)[0]
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


class TextCase(NamedTuple):
    """A network in eval mode with nothing at its neutral value, and its graph."""

    family: str
    model: nn.Module
    traced: TracedBackbone

    @property
    def head(self) -> nn.Module:
        """The layer behind the features, as the graph has it."""
        return self.traced.module.get_submodule(str(self.traced.head.target))


def built(family: str) -> nn.Module:
    """The network of a family, in eval mode."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    kind, options = {**FAMILIES, **MORE_FAMILIES, **REFUSED}[family]
    attention = options.get("attn_implementation")
    options = {name: value for name, value in {**_SMALL, **options}.items() if value is not None}
    config = AutoConfig.for_model(kind, **options)
    is_pair = getattr(config, "is_encoder_decoder", False)  # of which the encoder reads texts
    maker: Any = AutoModelForTextEncoding if is_pair else AutoModel
    kwargs = {} if attention is None else {"attn_implementation": attention}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MeanPooled(maker.from_config(config, **kwargs)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@functools.cache
def text_case(family: str) -> TextCase:
    """The case of a family; shared, so that it is not to be changed."""
    model = built(family)
    return TextCase(family, model, export(model, size=LENGTH))


def texts(batch: int, length: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random tokens and their mask: texts of all lengths, the first one without padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, VOCABULARY, (batch, length), generator=generator)
    lengths = torch.randint(1, length + 1, (batch, 1), generator=generator)
    lengths[0] = length
    mask = (torch.arange(length) < lengths).long()
    return tokens * mask, mask
