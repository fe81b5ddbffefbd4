"""Ray's own hook for `ray start` (RAY_START_HOOK): what it opens by default and nobody here uses stays off."""

from __future__ import annotations

from typing import Any

NAME = f"{__name__}.leave_out_what_nobody_uses"


def leave_out_what_nobody_uses(params: Any, head: bool) -> None:
    """No Ray Client server (else on port 10001) and no API server (else with metrics on 44227, without a token)."""
    from ray._private import services

    params.ray_client_server_port = None
    services.start_api_server = lambda *_, **__: (None, None)
