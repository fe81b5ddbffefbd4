"""Ray workers that are forked from a process with the large imports done.

On two cores the start of a training is almost all imports: a dozen Python processes each spend five to ten seconds
of CPU on torch, transformers, vLLM and verl. Ray takes another program in place of `python`
(`runtime_env.py_executable`). Here that is this file as a script: it sends its arguments, environment, folder and
standard streams to the nursery, which forks, and then waits in the worker's place until the worker ends. Without a
nursery it becomes a plain Python worker.

CPU only: a forked process must not inherit CUDA. Only the standard library is imported at the top, so that the
script itself starts in a few hundredths of a second.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PRELOADED = (
    "torch.distributed.checkpoint",
    "tensordict",
    "transformers.modeling_utils",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "datasets",
    "torchdata.stateful_dataloader",
    "peft",
    "hydra",
    "swanlab",
    "vllm.engine.arg_utils",
    "vllm.v1.worker.cpu_worker",
    "vllm.entrypoints.openai.cli_args",
    "vllm.entrypoints.pooling.factories",
)
"""Slow imports that do not import Ray, whose C++ part reads the worker's environment when it is loaded."""
_LENGTH = struct.Struct("!I")


def serve(path: Path, modules: Sequence[str] = PRELOADED) -> None:
    """Import, listen at `path` (a short path: Unix sockets allow 107 bytes), fork on demand. Ends by SIGTERM."""
    import importlib

    for name in modules:
        importlib.import_module(name)
    if "ray" in sys.modules:
        raise RuntimeError("the nursery has imported Ray: workers would get the nursery's environment")
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate())
        raise RuntimeError(f"the nursery cannot fork safely with threads running: {names}")
    gc.collect()
    gc.freeze()  # a child's collector then leaves the parent's objects alone, and their pages stay shared
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    os.umask(0o077)  # who can write to the socket can run anything as this user
    listener.bind(str(scratch))
    listener.listen(64)
    scratch.rename(path)  # once the path exists, clients can connect
    _serve(listener)


def _serve(listener: socket.socket) -> None:
    waiting: dict[int, socket.socket] = {}  # worker's pid -> connection of the script that waits for it
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(readable, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                request, streams = _receive(connection)
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    for inherited in (listener, connection, *waiting.values()):
                        inherited.close()
                    signal.set_wakeup_fd(-1)
                    os.close(readable)
                    os.close(writable)
                    _become_worker(request, streams)
                for stream in streams:
                    os.close(stream)
                connection.sendall(_LENGTH.pack(pid))
                waiting[pid] = connection
            else:
                os.read(readable, 4096)
                _report_ended(waiting)


def _report_ended(waiting: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            connection = waiting.pop(ended[0], None)
            if connection is not None:
                with contextlib.suppress(OSError):  # the script was killed first
                    connection.sendall(_LENGTH.pack(os.waitstatus_to_exitcode(ended[1]) & 0xFF))
                connection.close()


def _become_worker(request: dict[str, Any], streams: list[int]) -> None:
    """In the forked child: set up the process like a fresh `python SCRIPT ARGS`, and run it. Does not return."""
    import runpy
    import traceback

    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(int(request["umask"]))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(str(request["folder"]))
    arguments = [str(argument) for argument in request["arguments"]]
    sys.argv = arguments
    if not sys.flags.safe_path:  # else the first entry is not a script's folder
        sys.path[0] = str(Path(arguments[0]).parent)
    status = 1
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    numbers = array.array("i")
    first, ancillary, _, _ = connection.recvmsg(_LENGTH.size, socket.CMSG_SPACE(3 * numbers.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data)
    rest, size = b"", _LENGTH.unpack(first)[0]
    while len(rest) < size:
        rest += connection.recv(size - len(rest))
    return json.loads(rest), list(numbers)


def stand_in(path: str, arguments: list[str]) -> int:
    """Have the nursery at `path` start a worker and wait for it; returns its exit status. Signals are passed on."""
    os.umask(umask := os.umask(0o077))
    fields = {"arguments": arguments, "environment": dict(os.environ), "folder": str(Path.cwd()), "umask": umask}
    request = json.dumps(fields, ensure_ascii=True).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
        connection.sendmsg([_LENGTH.pack(len(request))], rights)
        connection.sendall(request)
        worker = _LENGTH.unpack(connection.recv(_LENGTH.size))[0]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: os.kill(worker, received))
        status = connection.recv(_LENGTH.size)
    return _LENGTH.unpack(status)[0] if status else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(Path(sys.argv[2]))
    try:
        result = stand_in(sys.argv[1], sys.argv[2:])
    except (ConnectionError, FileNotFoundError):
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])  # noqa: S606
    sys.exit(result)
