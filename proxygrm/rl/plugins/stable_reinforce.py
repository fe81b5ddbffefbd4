"""StableReinforce in verl: its advantage estimator, and figures that verl's estimators have no way to report.

Imported with verl in every process of the training (`VERL_USE_EXTERNAL_MODULES`); does nothing until verl imports its
algorithms or its trainer. The trainer's metrics of each step get, as `stable_reinforce/...`: `filtered_positive`,
`filtered_negative` and `not_finite` (shares of the response tokens), and at the first step of a run
`log_prob_distance`. The clipped ratios are in verl's `actor/pg_clipfrac` and, for the upper Pre-CLIP,
`actor/pg_clipfrac_lower`.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

from proxygrm.core.files.whole_file import write_text
from proxygrm.rl.algorithms.stable_reinforce import OPTIONS

ALGORITHMS = "verl.trainer.ppo.core_algos"
TRAINER = "verl.trainer.ppo.v1.trainer_base"
NAME = "stable_reinforce"
_shares: dict[str, float] = {}
"""Of the last advantages, until the trainer's metrics get them: one process computes a step's advantages."""


class ActorDisagrees(RuntimeError):
    """The actor gives the rollouts other probabilities than the engine that generated them."""


def register(core_algos: ModuleType) -> None:
    core_algos.register_adv_est(NAME)(estimate)


def estimate(token_level_rewards: Any, response_mask: Any, config: Any, **_: Any) -> tuple[Any, Any]:
    """verl's call; keeps the filter's shares for `with_figures`."""
    from proxygrm.rl.stable_reinforce import discounted_returns, filter_shares, whiten_and_filter

    options, mask = _options(), response_mask != 0
    returns = discounted_returns(token_level_rewards, mask, config.gamma)
    values, dropped = whiten_and_filter(returns, mask, options["rule"], options["limit"])
    _shares.update(filter_shares(values, dropped, mask))
    return values.masked_fill_(dropped, 0.0), returns


def extend_trainer(trainer_base: ModuleType) -> None:
    trainer = trainer_base.PPOTrainer
    trainer._compute_advantage = with_figures(trainer._compute_advantage)


def with_figures(compute_advantage: Any) -> Any:
    """The trainer's method, with the figures in the step's metrics; raises ActorDisagrees at the first step."""

    @functools.wraps(compute_advantage)
    def _compute_advantage(self: Any, batch: Any, metrics: dict[str, Any]) -> Any:
        if self.global_steps == 1:
            distance = log_prob_distance(batch)
            metrics[f"{NAME}/log_prob_distance"] = distance
            limit = _options()["max_log_prob_distance"]
            if not distance <= limit:
                _stop(self, distance, limit)
        batch = compute_advantage(self, batch, metrics)
        metrics.update({f"{NAME}/{name}": share for name, share in _shares.items()})
        _shares.clear()
        return batch

    return _compute_advantage


def log_prob_distance(batch: Any) -> float:
    """Mean distance, over the step's response tokens, between the rollouts' log-probabilities and the actor's."""
    import transfer_queue as tq

    fields = ["rollout_log_probs", "old_log_probs", "response_mask"]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields).to_padded_tensor()
    mask = data["response_mask"] != 0
    distances = (data["rollout_log_probs"].float() - data["old_log_probs"].float()).abs()
    return float(distances[mask].mean()) if mask.any() else 0.0


def _stop(trainer: Any, distance: float, limit: float) -> None:
    message = (
        f"step 1: the actor's log-probabilities are {distance:.3g} from the rollouts' on average; the limit is {limit} "
        "(algorithm.max_log_prob_distance). They do not see the same input: check that the actor gets the images, and "
        "that model and precision are the same"
    )
    write_text(Path(trainer.replay_buffer.options.stop_file), message + "\n")
    raise ActorDisagrees(message)


@functools.cache
def _options() -> dict[str, Any]:
    return dict(json.loads(os.environ[OPTIONS]))


wrapt.register_post_import_hook(register, ALGORITHMS)
wrapt.register_post_import_hook(extend_trainer, TRAINER)
