"""Asks for the job's key at every door of verl's own rollout servers.

verl talks to them through Ray, but each also serves vLLM's whole API on the node's address. Named by vLLM's
`middleware` setting; loaded inside the server, which so gets the limits on connections of a proxy replica, too.
"""

from __future__ import annotations

from proxygrm.core.runtime.job_secret import derived
from proxygrm.serving.access.guard import App
from proxygrm.serving.replicas.inside_vllm import RequireKey


def job_key() -> str:
    return derived("rollout server").hex()


class RequireJobKey(RequireKey):
    """`RequireKey` with a key from the job's secret, which is in no environment that Ray would show."""

    def __init__(self, app: App) -> None:
        super().__init__(app, job_key())
