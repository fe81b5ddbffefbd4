"""Reinforcement learning of the GRM: GRPO by verl's own `main_ppo`, with the proxy's verdict in the reward.

`config` has every hyper-parameter, `overrides` translates them for verl; `train` builds the command, reads progress
and collects the policy; `plugins` is loaded by verl, in its own processes; `guards` closes verl's sockets to other
users; `cpu` lets verl run where there is no GPU.
"""
