"""Ray's own hook for `ray start` (RAY_START_HOOK): services that this suite does not use stay off."""

from __future__ import annotations

from typing import Any

NAME = f"{__name__}.disable_unused_services"


def disable_unused_services(params: Any, head: bool) -> None:
    """No Ray Client server (else on port 10001) and no API server (else with metrics on 44227, without a token)."""
    from ray._private import services

    params.ray_client_server_port = None
    services.start_api_server = lambda *_, **__: (None, None)
