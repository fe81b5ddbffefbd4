"""A tiny Qwen2.5-VL with random weights and a newly trained tokenizer: the demo's start checkpoint.

It has the classes, files and chat format of the real model, so transformers, vLLM, ms-swift and verl load it as such.
About a million parameters, untrained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from proxygrm.demo.scenes import SIZE

PATCH = 14  # pixels; two by two patches become one visual token
HEAD_DIM = 32
CONTEXT = 4096  # tokens
TEXT_STD, VISION_STD = 0.08, 0.1  # of the initial weights

# The control tokens of Qwen2-VL, in its order. Their ids differ from the real ones: take them from the tokenizer.
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Qwen2.5-VL's conversation format: a default system turn, images as one placeholder between vision marks.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type in ('image', 'image_url') or 'image' in part or 'image_url' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' or 'video' in part -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
_CHAT_WORDS = "system\nYou are a helpful assistant.\nuser\nassistant\n"


def build_tiny_model(
    out: Path,
    corpus: Iterable[str],
    seed: int = 0,
    hidden: int = 128,
    layers: int = 3,
    vocab: int = 1500,
) -> None:
    """Write a complete Hugging Face checkpoint (float32, one safetensors file, processor, tokenizer) into `out`.

    `hidden`: width of the language model, a multiple of 64. `vocab`: the most tokens to learn from `corpus`, the 256
    bytes included; a corpus of few words gives fewer. The embedding has exactly as many rows as there are tokens,
    because a random model would otherwise sample ids without a token.
    """
    import torch
    from transformers import (
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )
    from transformers.utils.logging import disable_progress_bar

    if hidden < 64 or hidden % 64:
        raise ValueError(f"hidden is {hidden}; it must be a multiple of 64 (pairs of heads of {HEAD_DIM})")
    tokenizer = train_tokenizer(corpus, vocab)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(_config(ids, len(tokenizer), hidden, layers)).float()
        _widen(model.model.language_model, TEXT_STD)
        _widen(model.lm_head, TEXT_STD)
        _widen(model.model.visual, VISION_STD)
    model.generation_config.update(
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]], pad_token_id=ids["<|endoftext|>"], do_sample=True
    )
    out.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()  # of saving one small file
    model.save_pretrained(out)
    pixels = {"shortest_edge": SIZE * SIZE, "longest_edge": 4 * SIZE * SIZE}
    patches = {"size": pixels, "patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**patches),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**patches),
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(out)


def train_tokenizer(corpus: Iterable[str], vocab: int) -> Any:
    """Qwen2's tokenizer (normalisation, word splitting, byte-level BPE) with merges learned from `corpus`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    pipeline = Qwen2Tokenizer().backend_tokenizer  # empty vocabulary, but the real normaliser and splitter
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer = pipeline.normalizer, pipeline.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [*corpus, _CHAT_WORDS]
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=list(SPECIAL),
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _widen(part: Any, std: float) -> None:
    """Draw the weight matrices again: 0.02 suits a wide model; one of width 128 would hardly learn for 100 steps."""
    from torch.nn.init import normal_

    for parameter in part.parameters():
        if parameter.dim() >= 2:
            normal_(parameter, 0.0, std)


def _config(ids: dict[str, int], vocab: int, hidden: int, layers: int) -> Any:
    from transformers import Qwen2_5_VLConfig

    heads = hidden // HEAD_DIM
    text = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": CONTEXT,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "layer_types": ["full_attention"] * layers,
        "use_sliding_window": False,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": hidden,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 8 * PATCH,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    config.dtype = "float32"
    return config
