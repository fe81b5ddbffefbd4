"""Matrix products on this node and all-reduces with its neighbours; a child process of the preflight.

A child, because CUDA would keep its memory in the job's own process, and because a hanging library must be killable.
Each result is printed as one line of JSON as soon as it is known, so that a kill loses only later ones:

    {"gpus": 8, "gpu_free": [0.99, ...], "gemm_s": 0.0021}
    {"link": 3, "seconds": 0.012}          (null: no all-reduce succeeded, "why" is the reason)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from slurm.health.preflight.judge import ring_rounds

GEMM = {"cpu": 512, "cuda": 8192}
GEMM_TIMES = {"cpu": 5, "cuda": 20}
FLOATS = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Elements of an all-reduce: 4 MB on CPUs, 256 MB (bfloat16) on GPUs, enough to be bound by the network."""
REDUCE_TIMES = 5
LINK_S = 10.0
"""How long two nodes may take to connect once both have started; and as long again for their all-reduces."""
# A link that fails is a result; PyTorch's watchdogs would end the process for it.
os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
os.environ.setdefault("TORCH_NCCL_ENABLE_MONITORING", "0")


def report(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


def best_of(times: int, act: Callable[[], None], done: Callable[[], None]) -> float:
    """Seconds of the fastest run after a warm-up."""
    act()
    done()
    fastest = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        act()
        done()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def matrix_products(device: str) -> None:
    import torch

    size, times = GEMM[device], GEMM_TIMES[device]
    if device == "cpu":
        a = torch.rand(size, size)
        report({"gemm_s": best_of(times, lambda: torch.mm(a, a), lambda: None)})
        return
    free, seconds = [], []
    for gpu in range(torch.cuda.device_count()):
        torch.cuda.set_device(gpu)
        available, total = torch.cuda.mem_get_info()
        free.append(available / total)
        b = torch.rand(size, size, device="cuda", dtype=torch.bfloat16)
        seconds.append(best_of(times, lambda b=b: torch.mm(b, b), torch.cuda.synchronize))  # type: ignore[misc]
        del b
    report({"gpus": len(free), "gpu_free": free, "gemm_s": max(seconds) if seconds else None})


def in_time(link: Callable[[], float]) -> dict[str, Any]:
    """{"seconds": ...}, or null and why. In a thread, because on a network that drops packets libraries wait for longer
    than their time-out; the next link is tried beside one that hangs, and main() exits without it."""
    result: dict[str, Any] = {"seconds": None, "why": f"not done within {2 * LINK_S:.0f} s"}

    def work() -> None:
        try:
            seconds = link()
        except Exception as error:
            result["why"] = (str(error).splitlines() or [type(error).__name__])[0][:200]
        else:
            result.update(seconds=seconds, why="")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2 * LINK_S)
    return dict(result)


def all_reduces(rank: int, size: int, host: str, port: int, device: str, wait_s: float) -> None:
    """With each neighbour in the ring, over the network that training will use (NCCL, or gloo on CPUs)."""
    import torch
    import torch.distributed as dist

    store = dist.TCPStore(host, port, is_master=rank == 0, timeout=timedelta(seconds=wait_s), wait_for_workers=False)
    store.set(f"here-{rank}", "1")
    with contextlib.suppress(RuntimeError):  # a node that does not start is skipped below and judged elsewhere
        store.wait([f"here-{other}" for other in range(size)], timedelta(seconds=wait_s))
    if device == "cuda":
        torch.cuda.set_device(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tensor = torch.ones(FLOATS[device], device=device, dtype=dtype)
    for pair in (pair for pairs in ring_rounds(size) for pair in pairs if rank in pair):
        other = pair[pair[0] == rank]
        if not store.check([f"here-{other}"]):
            report({"link": other, "seconds": None, "why": "it has not started"})
            continue
        # The partner may still be busy with its other neighbour, which does not count against this link.
        store.set(f"ready-{other}-{rank}", "1")
        with contextlib.suppress(RuntimeError):
            store.wait([f"ready-{rank}-{other}"], timedelta(seconds=4 * LINK_S))
        report({"link": other, **in_time(lambda pair=pair: _one_link(dist, store, pair, rank, tensor, device))})  # type: ignore[misc]
    store.set(f"left-{rank}", "1")
    if rank == 0:  # it serves the store
        started = [other for other in range(size) if store.check([f"here-{other}"])]
        with contextlib.suppress(RuntimeError):
            store.wait([f"left-{other}" for other in started], timedelta(seconds=6 * LINK_S))


def _one_link(dist: Any, store: Any, pair: tuple[int, int], rank: int, tensor: Any, device: str) -> float:
    import torch

    own = dist.PrefixStore(f"pair-{pair[0]}-{pair[1]}", store)
    own.set_timeout(timedelta(seconds=LINK_S))
    if device == "cuda":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timedelta(seconds=LINK_S)
        group = dist.ProcessGroupNCCL(own, pair.index(rank), 2, options)
    else:
        group = dist.ProcessGroupGloo(own, pair.index(rank), 2, timedelta(seconds=LINK_S))
    done = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    return best_of(REDUCE_TIMES, lambda: group.allreduce([tensor]).wait(), done)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m slurm.health.preflight.speed", description=__doc__.splitlines()[0])
    for name in ("rank", "size", "port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--device", choices=list(GEMM), required=True)
    parser.add_argument("--wait-s", type=float, required=True)
    arguments = parser.parse_args()
    matrix_products(arguments.device)
    if arguments.size > 1:
        all_reduces(arguments.rank, arguments.size, arguments.host, arguments.port, arguments.device, arguments.wait_s)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the thread of a link that hangs must not keep the process
