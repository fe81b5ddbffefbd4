from __future__ import annotations

from importlib.util import find_spec

from proxygrm.core.checkpoints.attention import FLASH, TORCH, attention


def test_flash_attention_is_used_where_it_is_installed_and_never_on_cpus():
    assert attention("auto", "cuda") == (FLASH if find_spec("flash_attn") else TORCH)
    assert attention("auto", "cpu") == TORCH
    assert attention("eager", "cuda") == "eager"
