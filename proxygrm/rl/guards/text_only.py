"""Batches in which no row has an image or a video, on Qwen2-VL, Qwen2.5-VL and GLM-4V.

The vision tower runs on an empty image then, so that it takes part in FSDP's communication. verl 0.9.1 takes the mean
of what it returns, which with transformers 5 is not a tensor: the training ended with "'BaseModelOutputWithPooling'
object has no attribute 'mean'". verl imports this where it loads a model (`actor_rollout_ref.model.external_lib`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from verl.models.transformers import glm4v, qwen2_vl
from verl.utils.transformers_compat import unpack_visual_output


class TensorVision:
    """A model whose vision tower returns its tensor alone."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def visual(self, *inputs: Any, **named: Any) -> Any:
        return unpack_visual_output(self._model.visual(*inputs, **named))[0]


def for_text_only(embeds: Callable[..., Any]) -> Callable[..., Any]:
    """verl's `_get_input_embeds` of a model, for batches without images, too."""

    @wraps(embeds)
    def guarded(
        model: Any,
        input_ids: Any,
        attention_mask: Any = None,
        pixel_values: Any = None,
        pixel_values_videos: Any = None,
        *grids: Any,
        **named: Any,
    ) -> Any:
        only_text = pixel_values is None and pixel_values_videos is None
        vision = TensorVision(model) if only_text else model
        return embeds(vision, input_ids, attention_mask, pixel_values, pixel_values_videos, *grids, **named)

    return guarded


for _module in (qwen2_vl, glm4v):
    if not hasattr(_module._get_input_embeds, "__wrapped__"):
        _module._get_input_embeds = for_text_only(_module._get_input_embeds)
