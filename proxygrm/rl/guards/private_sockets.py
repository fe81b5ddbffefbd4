"""Makes verl's and TransferQueue's sockets private to the job, on every device, without editing installed packages.

- The socket that carries the weights from the trainer to vLLM: verl creates it in /tmp under a name that can be
  guessed, and unpickles what arrives. Here both ends use the job's private folder on the node.
- TransferQueue: see `curve`.

`guard` runs before either is imported: as Ray's `worker_process_setup_hook` in each worker (TransferQueue's servers
never import verl), and with verl itself in the driver and in vLLM's processes (`guarded_verl`, by
`VERL_USE_EXTERNAL_MODULES`). It imports neither. A module or name that has moved is an error.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from proxygrm.core.runtime.job_secret import node_folder

HOOK = f"{__name__}.guard"
MIDDLEWARE = "proxygrm.rl.guards.rollout_guard.RequireJobKey"
WEIGHTS = "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"
WEIGHT_ENDS = ("BucketedWeightSender", "BucketedWeightReceiver")
QUEUE = "transfer_queue.utils.zmq_utils"
QUEUE_SOCKETS = "create_zmq_socket"


@functools.cache
def guard() -> None:
    """Patch the modules as soon as they are imported. Safe to call again."""
    import wrapt

    for name, change in ((WEIGHTS, keep_weights_private), (QUEUE, keep_queue_private)):
        _must_exist(name)
        wrapt.register_post_import_hook(change, name)


def keep_weights_private(module: ModuleType) -> None:
    for name in WEIGHT_ENDS:
        end = _expected(module, name)
        end.__init__ = _at_a_private_path(end.__init__)


def keep_queue_private(module: ModuleType) -> None:
    from proxygrm.rl.guards.curve import guarded

    original = _expected(module, QUEUE_SOCKETS)
    private = guarded(original)
    setattr(module, QUEUE_SOCKETS, private)
    for name, importer in list(sys.modules.items()):  # modules that have imported it by name already
        if name.startswith("transfer_queue.") and vars(importer).get(QUEUE_SOCKETS) is original:
            setattr(importer, QUEUE_SOCKETS, private)


def private_handle(handle: str) -> str:
    """verl's `ipc:///tmp/NAME`, in the job's folder on this node."""
    if not handle.startswith("ipc:///"):
        raise RuntimeError(f"verl's weight socket is {handle!r}; only ipc:// with a path can be guarded")
    return f"ipc://{node_folder() / PurePosixPath(handle).name}"


def _at_a_private_path(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def __init__(self: Any, zmq_handle: str, *args: Any, **options: Any) -> None:
        init(self, private_handle(zmq_handle), *args, **options)

    return __init__


def _must_exist(name: str) -> None:
    """RuntimeError when an upgrade has moved a module, since its hook would never run. Imports nothing."""
    package, *rest = name.split(".")
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    if not any(Path(folder, *rest).with_suffix(".py").is_file() for folder in folders or ()):
        raise RuntimeError(f"the installed {package} has no {name}: the job's sockets cannot be guarded")


def _expected(module: ModuleType, name: str) -> Any:
    """RuntimeError when an upgrade has renamed it. (verl would take an ImportError for a missing package.)"""
    if not hasattr(module, name):
        raise RuntimeError(f"{module.__name__} has no {name}: the job's sockets cannot be guarded")
    return getattr(module, name)
