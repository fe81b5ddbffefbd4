"""Which attention kernel a training uses."""

from __future__ import annotations

from importlib.util import find_spec

FLASH, TORCH = "flash_attention_2", "sdpa"
KERNELS = ("auto", FLASH, "flash_attention_3", TORCH, "eager")


def attention(kernel: str, device: str) -> str:
    """`kernel`, or for "auto" flash_attention_2 on GPUs where flash-attn is installed, and torch's own elsewhere.

    Both compute the same. flash-attn is compiled against the site's CUDA, so it cannot be in the locked requirements;
    set-up builds it where there is a compiler.
    """
    if kernel != "auto":
        return kernel
    return FLASH if device == "cuda" and find_spec("flash_attn") else TORCH
