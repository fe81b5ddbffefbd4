"""Requires the job's key for every request to verl's own rollout servers.

verl talks to them through Ray, but each also serves vLLM's whole API on the node's address. Loaded inside the server by
vLLM's `middleware` setting, together with the connection limits of a proxy replica.
"""

from __future__ import annotations

from proxygrm.core.runtime.job_secret import derive_key
from proxygrm.serving.access.guard import App
from proxygrm.serving.replicas.inside_vllm import RequireKey


def job_key() -> str:
    return derive_key("rollout server").hex()


class RequireJobKey(RequireKey):
    """`RequireKey` with a key from the job's secret, which is not in any environment that Ray shows."""

    def __init__(self, app: App) -> None:
        super().__init__(app, job_key())
