"""The judge that writes critiques, for a checkpoint or an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxygrm.evaluate.judges.base import CheckpointJudge
from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointJudge
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.settings import EvaluateSettings


def judge_for(
    source: Endpoint | Path, settings: EvaluateSettings, prompt: Callable[[OrderedPair], str] | None = None
) -> CheckpointJudge | EndpointJudge:
    """prompt: the text of a request; default: the instruction for a critique."""
    if isinstance(source, Endpoint):
        return EndpointJudge(source, settings, prompt)
    return CheckpointJudge(source, settings, prompt)
