"""The judge for a checkpoint or an endpoint: one that writes critiques, or scores with a scalar reward model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxygrm.core.checkpoints.kinds import refuse_process
from proxygrm.core.checkpoints.scalar import is_scalar_checkpoint
from proxygrm.evaluate.judges.base import Calls, CheckpointCalls, CheckpointJudge
from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointCalls, EndpointJudge
from proxygrm.evaluate.judges.scalar_checkpoint import ScalarCheckpointJudge
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.settings import EvaluateSettings


def judge_for(
    source: Endpoint | Path,
    settings: EvaluateSettings,
    prompt: Callable[[OrderedPair], str] | None = None,
    kind: str = "",
) -> CheckpointJudge | EndpointJudge | ScalarCheckpointJudge:
    """prompt: the text of a request, for judges that write; default: the instruction for a critique. A scalar reward
    model is recognised from its config.json, and a step judge, which is refused, from its marker; kind: what the user
    says that a checkpoint is."""
    if isinstance(source, Endpoint):
        return EndpointJudge(source, settings, prompt)
    if prompt is None and is_scalar_checkpoint(source):
        return ScalarCheckpointJudge(source, settings)
    refuse_process(source, "a judge of pairs", kind)
    return CheckpointJudge(source, settings, prompt)


def calls_of(source: Endpoint | Path, settings: EvaluateSettings) -> Calls:
    """A model that answers any requests."""
    return EndpointCalls(source, settings) if isinstance(source, Endpoint) else CheckpointCalls(source, settings)
