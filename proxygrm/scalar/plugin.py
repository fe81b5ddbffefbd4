"""Loaded by ms-swift (`--external_plugins`) for `rlhf_type rm`: the suite's reward head in place of one linear layer,
the last token by the attention mask, and what the loss may add.

ms-swift looks for the end of a row at the first padding token of its text, which a response may contain; and its patch
knows a head of one layer only.
"""

from __future__ import annotations

import os
from functools import wraps
from typing import Any

import torch
from swift.model import patcher
from swift.rlhf_trainers.reward_trainer import RewardTrainer
from swift.template import Template
from swift.trainers.trainer_factory import TrainerFactory
from swift.utils import HfConfigFactory
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from proxygrm.core.checkpoints.scalar import HEAD
from proxygrm.core.errors import UserError
from proxygrm.scalar.head import RewardHead
from proxygrm.scalar.settings import RewardModelSettings

SETTINGS = RewardModelSettings.from_environment(os.environ)
_LENGTHS = "response_lengths"

_patch = patcher._patch_sequence_classification
_pooled_at_padding = patcher.transformers_seq_cls_forward
_rlhf_encode, _rlhf_collate = Template._rlhf_encode, Template._rlhf_data_collator


def with_reward_head(model: Any, model_meta: Any) -> None:
    """ms-swift's patch, then the head. It is called while the model is built, before weights are loaded, so the head's
    are saved, loaded and resumed as all others."""
    _patch(model, model_meta)
    holder = patcher.get_lm_head_model(model, model_meta, ["score"])
    linear = holder.score
    config = model.config
    recorded = getattr(config, HEAD, None) or SETTINGS.recorded
    if recorded != SETTINGS.recorded:
        raise UserError(
            f"the start checkpoint is a scalar reward model whose head is {recorded}; the settings ask for "
            f"{SETTINGS.recorded}. Set the same, or start from a checkpoint that generates",
            code="checkpoint.other-head",
            recorded=recorded,
            wanted=SETTINGS.recorded,
        )
    setattr(config, HEAD, recorded)
    config.get_text_config().num_labels = 1  # vLLM sizes the last layer by this one
    with torch.device(linear.weight.device):
        head = RewardHead(linear.in_features, recorded["layers"], recorded["activation"])
    std = HfConfigFactory.get_config_attr(config, "initializer_range")
    for parameter in head.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=std)
        else:
            torch.nn.init.zeros_(parameter)
    holder.score = head.to(linear.weight.dtype)


patcher._patch_sequence_classification = with_reward_head


def score_the_last_token(model: Any, *args: Any, origin_forward: Any, padding_side: Any = None, **kwargs: Any) -> Any:
    """The head on the last token that is not padding, by the attention mask; (B, 1) logits in float32."""
    mask = kwargs.get("attention_mask")
    if mask is None or mask.dim() != 2 or kwargs.get("labels") is not None:
        return _pooled_at_padding(model, *args, origin_forward=origin_forward, padding_side=padding_side, **kwargs)
    kwargs.pop("return_dict", None)
    output = origin_forward(*args, **kwargs)
    states = output.logits if hasattr(output, "logits") else output["last_hidden_state"]
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (mask.ne(0) * positions).argmax(-1).to(states.device)
    pooled = states[torch.arange(len(last), device=states.device), last]
    return SequenceClassifierOutputWithPast(logits=model.score(pooled))


patcher.transformers_seq_cls_forward = score_the_last_token


class Trainer(RewardTrainer):
    """ms-swift's trainer of reward models, with a constant margin and length normalisation where they are on."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: Any = False, num_items_in_batch: Any = None) -> Any:
        lengths = inputs.pop(_LENGTHS, None)
        if SETTINGS.margin:
            margin = inputs.get("margin")
            rows = inputs["attention_mask"].shape[0] // 2
            inputs["margin"] = (torch.zeros(rows) if margin is None else margin) + SETTINGS.margin
        if lengths is not None:
            model = _Normalised(model, lengths)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class _Normalised:
    """A model whose rewards are divided by ln(response tokens + 1)."""

    def __init__(self, model: Any, lengths: torch.Tensor) -> None:
        self.model, self.lengths = model, lengths

    def __call__(self, **inputs: Any) -> Any:
        output = self.model(**inputs)
        scale = torch.log1p(self.lengths.to(output.logits.device).float())
        output.logits = output.logits / scale[:, None]
        return output


TrainerFactory.TRAINER_MAPPING["rm"] = f"{__name__}.Trainer"


@wraps(_rlhf_encode)
def encode_with_lengths(template: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    texts = [each.messages[-1]["content"] for each in (inputs.chosen, inputs.rejected)]
    encoded = _rlhf_encode(template, inputs, *args, **kwargs)
    tokens = [len(template.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    return encoded | {_LENGTHS: [max(count, 1) for count in tokens]}


@wraps(_rlhf_collate)
def collate_with_lengths(template: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    pairs = [row[_LENGTHS] for row in batch]
    lengths = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
    return _rlhf_collate(template, batch, *args, **kwargs) | {_LENGTHS: torch.tensor(lengths)}


if SETTINGS.length_normalisation:
    Template._rlhf_encode, Template._rlhf_data_collator = encode_with_lengths, collate_with_lengths
