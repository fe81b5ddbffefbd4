"""Variables that keep libraries from sending usage statistics; every process that starts one sets them."""

from __future__ import annotations

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",  # vLLM, the hub's client
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
