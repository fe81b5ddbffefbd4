"""Asks for the job's key at every door of verl's own rollout servers.

verl talks to them through Ray, but each also serves vLLM's whole API on the node's address. Named by vLLM's
`middleware` setting; loaded inside the server, which so gets the limits on connections of a proxy replica, too.
"""

from __future__ import annotations

from proxygrm.job_secret import derived
from proxygrm.proxy.guard import App
from proxygrm.proxy.inside_vllm import RequireKey


def job_key() -> str:
    return derived("rollout server").hex()


class RequireJobKey(RequireKey):
    """`RequireKey` with a key from the job's secret, which is in no environment that Ray would show."""

    def __init__(self, app: App) -> None:
        super().__init__(app, job_key())
