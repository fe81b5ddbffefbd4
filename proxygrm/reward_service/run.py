"""`proxygrm serve-reward`: replicas of every model, and the API over them, until a signal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from proxygrm.core.errors import UserError
from proxygrm.critique.contracts import PROXY_GRM, Contract
from proxygrm.reward_service.api import api
from proxygrm.reward_service.generative import GenerativeModel
from proxygrm.reward_service.judges import CountedPool, RewardModel
from proxygrm.reward_service.models import ServedModel
from proxygrm.reward_service.process import ProcessModel
from proxygrm.reward_service.scalar import ScalarModel
from proxygrm.scalar.replica import SCORER
from proxygrm.serving.access.callers import NOBODY, Callers
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.front.listen import check_folder, listen, server_of
from proxygrm.serving.replicas.command import VLLM
from proxygrm.serving.replicas.serve import Serving, serve
from proxygrm.serving.replicas.standalone import (
    CHECK_EVERY_S,
    check_vllm,
    stop_on_signal,
    visible_gpus,
    working_folder,
)
from proxygrm.serving.settings import ProxySettings

COMMAND = "serve-reward"
KEY_FILE = "reward.key"
NO_HELPERS: Mapping[str, ServedModel | Endpoints] = MappingProxyType({})
PROGRAMS = {"scalar": SCORER, "process": VLLM, "generative": VLLM}


class _Stopped(Exception):
    """A signal arrived while the replicas were still starting."""


def run(
    models: Sequence[ServedModel],
    settings: ProxySettings,
    *,
    helpers: Mapping[str, ServedModel | Endpoints] = NO_HELPERS,
    contract: Contract = PROXY_GRM,
    folder: Path | None = None,
    device: str = "auto",
    host: str = "127.0.0.1",
    port: int = 0,
    images: Path | None = None,
    key_file: Path | None = None,
    callers: Callers = NOBODY,
    on_message: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; returns when all processes are gone.

    settings: of the replicas of each checkpoint, which several names may share. helpers: of the process models, by what
    they do. key_file, callers: as of `listen`. folder: for logs and endpoints files; None: a private temporary one.
    UserError: a checkpoint that cannot be served, too few GPUs, a port in use, a replica that fails for good.
    """
    check_folder(COMMAND, images)
    named = [*models, *(helper for helper in helpers.values() if isinstance(helper, ServedModel))]
    checkpoints = {model.path.resolve(): model for model in reversed(named)}
    device = _device(device, list(checkpoints.values()), settings)
    for model in checkpoints.values():  # all of them, before the first is started
        PROGRAMS[model.kind].fitted(settings, model.path, device)
    with (
        working_folder(folder) as own,
        listen(COMMAND, host, port, key_file, callers) as here,
        stop_on_signal() as stopped,
        ExitStack() as stack,
    ):

        def check() -> None:
            if stopped.is_set():
                raise _Stopped

        try:
            for name, helper in helpers.items():
                if isinstance(helper, Endpoints):
                    on_message(f"{name}: {helper.model} at {', '.join(helper.replicas)}")
            servings: dict[Path, Serving] = {}
            gpu = 0
            for model in named:
                on_message(f"{model.name}: {model.kind}, {model.path}")
                if (checkpoint := model.path.resolve()) in servings:
                    continue
                servings[checkpoint] = stack.enter_context(
                    serve(
                        model.path,
                        settings,
                        own / model.name,
                        name=model.name,
                        program=PROGRAMS[model.kind],
                        first_gpu=gpu,
                        device=device,
                        images=images,
                        on_message=on_message,
                        check=check,
                    )
                )
                gpu += _gpus(model, settings)

            def endpoints_of(model: ServedModel | Endpoints) -> Endpoints:
                if isinstance(model, Endpoints):
                    return model
                return Endpoints.read(servings[model.path.resolve()].endpoints_file)

            pools = {name: CountedPool(endpoints_of(helper)) for name, helper in helpers.items()}
            judges = {model.name: _judge(model, endpoints_of(model), contract, pools) for model in models}
            server = server_of(api(judges, here.key, images, here.callers))
            watcher = threading.Thread(target=_watch, args=(servings.values(), server, on_message), daemon=True)
            on_message(f"reward models: {here.url}  (a page for people is at /)")
            on_message(here.access)
            on_message("Ctrl-C stops it")
            check()
            watcher.start()
            server.run(sockets=[here.socket])
            server.should_exit = True
            watcher.join()
            for serving in servings.values():
                serving.check()
        except _Stopped:
            pass
    on_message("stopped")


def _watch(servings: Sequence[Serving], server: object, on_message: Callable[[str], None]) -> None:
    """Says when the state of a replica changes, and stops the server when one has failed for good."""
    states: dict[str, str] = {}
    wait = threading.Event()
    while not server.should_exit:  # type: ignore[attr-defined]
        for status in (status for serving in servings for status in serving.health()):
            if status.state != states.get(status.name, "healthy"):
                on_message(f"{status.name}: {status.state} {status.detail}".rstrip())
            states[status.name] = status.state
        if "failed" in states.values():
            server.should_exit = True  # type: ignore[attr-defined]
        wait.wait(CHECK_EVERY_S)


def _judge(
    model: ServedModel, endpoints: Endpoints, contract: Contract, helpers: Mapping[str, CountedPool]
) -> RewardModel:
    if model.kind == "generative":
        return GenerativeModel(endpoints, contract=contract)
    return ScalarModel(endpoints) if model.kind == "scalar" else ProcessModel(endpoints, helpers=helpers)


def _gpus(model: ServedModel, settings: ProxySettings) -> int:
    """A scalar model's replica has one."""
    return settings.replicas * (1 if model.kind == "scalar" else settings.tensor_parallel_size)


def _device(device: str, models: Sequence[ServedModel], settings: ProxySettings) -> str:
    """cpu or cuda. models: one of each checkpoint. UserError without vLLM where it is needed, and with too few GPUs."""
    if any(PROGRAMS[model.kind] is VLLM for model in models):
        check_vllm()
    gpus, needed = visible_gpus(), sum(_gpus(model, settings) for model in models)
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and needed > gpus:
        raise UserError(
            f"{COMMAND}: the replicas of {len(models)} models need {needed} GPUs, {gpus} are visible here; lower "
            "--replicas or --tensor-parallel-size",
            code="proxy.too-few-gpus",
            needed=needed,
            gpus=gpus,
        )
    return device
