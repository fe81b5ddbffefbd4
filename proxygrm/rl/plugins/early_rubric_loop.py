"""verl's agent loop for rollouts whose rubric is judged while they are still being generated: see `early_rubric`.

`agent_loops.yaml` registers it with verl (`rollout.agent.agent_loop_config_path`, `default_agent_loop`). It passes the
proxy's opinion on in the rollout's `extra_fields`, which verl adds to the `extra_info` of the reward function.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.profiler import simple_timer

from proxygrm.rl.plugins.early_rubric import Judging, TwoCalls
from proxygrm.rl.plugins.reward_fn import EARLY, judge_early


class EarlyRubricAgentLoop(SingleTurnAgentLoop):
    """The single-turn loop on a server client that generates in two calls.

    verl creates one for each rollout. A rollout that is cancelled also cancels the proxy's call.
    """

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **row: Any) -> Any:
        options = self.config.reward.custom_reward_function.reward_kwargs.options
        truth = row["reward_model"]["ground_truth"]
        judging = Judging(lambda text: judge_early(text, truth, row["extra_info"], options))
        # With full determinism verl seeds every call alike: the second would repeat the noise of the first.
        if not getattr(self.rollout_config, "full_determinism", False):
            self.server_manager = TwoCalls(
                self.server_manager,  # type: ignore[has-type]
                partial(self.tokenizer.decode, skip_special_tokens=True),
                judging.start,
                self.response_length,
                self.rollout_config.max_model_len,
            )
        try:
            output = await super().run(sampling_params, priority=priority, **row)
            waited: dict[str, float] = {}
            with simple_timer("tool_calls", waited):  # verl's name for the time spent waiting after the generation
                early = await judging.result()
            output.metrics.tool_calls = waited["tool_calls"]
            if early is not None:
                output.extra_fields[EARLY] = early
            return output
        finally:
            await judging.cancel()
