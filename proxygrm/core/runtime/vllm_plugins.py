"""Which plug-ins vLLM loads when it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "VLLM_PLUGINS"
_GROUPS = ("vllm.general_plugins", "vllm.platform_plugins", "vllm.io_processor_plugins", "vllm.stat_logger_plugins")
_NOT_LOADED = frozenset({
    # ms-swift's class for one embedding model, which is not a judge: it imports ms-swift and trl, 1.3 CPU s per start.
    "swift_uembed",
    # Off unless the variable names it: it fetches adapters that a request names.
    "lora_hf_hub_resolver",
})  # fmt: skip


def plugins(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """VLLM_PLUGINS with all that are installed but those that no job needs; as given, where it is."""
    from importlib.metadata import entry_points

    if VARIABLE in given:
        return {VARIABLE: given[VARIABLE]}
    names = {point.name for group in _GROUPS for point in entry_points(group=group)}
    return {VARIABLE: ",".join(sorted(names - _NOT_LOADED))}
