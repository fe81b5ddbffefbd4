"""Reinforcement learning of the GRM: GRPO by verl's own `main_ppo`, with the proxy's verdict in the reward.

`config` holds every hyper-parameter, `overrides` says them to verl; `train` builds the command, reads progress and
collects the policy; `reward_fn` and `sampler` are loaded by verl, in its own processes; `cpu` lets verl
run where there is no GPU.
"""
