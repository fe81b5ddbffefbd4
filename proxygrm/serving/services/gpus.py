"""The GPUs of a service on its node, by the numbers CUDA knows."""

from __future__ import annotations

import os
from collections.abc import Sequence

from proxygrm.core.errors import UserError

NODE_GPUS = "PROXYGRM_NODE_GPUS"
"""CUDA numbers of all GPUs a job has on the node, comma-separated; the job's own CUDA_VISIBLE_DEVICES is not enough
inside Ray, which changes that in each worker."""


def gpu_numbers(positions: Sequence[int]) -> tuple[str, ...]:
    """CUDA numbers (or UUIDs) of GPUs of this job by their positions in the node's list."""
    listed = os.environ.get(NODE_GPUS) or os.environ.get("CUDA_VISIBLE_DEVICES") or ""
    numbers = [number for number in listed.split(",") if number]
    if not numbers:
        return tuple(str(position) for position in positions)
    if positions and max(positions) >= len(numbers):
        raise UserError(
            f"GPU {max(positions) + 1} of this node is needed, the job has {len(numbers)} ({listed})",
            code="service.too-few-gpus",
            needed=max(positions) + 1,
            gpus=len(numbers),
        )
    return tuple(numbers[position] for position in positions)
