"""The cost of a verdict without reasons compared with one with them: tokens, CPU seconds and time per proxy mode.

    python benchmarks/proxy_modes.py runs/demo/distill/critiques --pairs PAIRS --model runs/demo/proxy_sft/model

One replica on this machine's CPU. The rubrics are split into four parts by pair, none of which shares a prompt with
another; critique, verdict, verdict, critique, so that neither mode finds the other's prompts in the cache and a
machine that slows down meanwhile affects both. CPU seconds are those of the replica's processes. The other costs of a
judgement (images, prompt) are the same in both modes; how much longer reasons take depends on their length.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
from proxygrm.core.checkpoints.limits import context_length
from proxygrm.evaluate.agreement.cases import Case, read_cases
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.replicas.serve import serve
from proxygrm.serving.settings import MODES, Mode, ProxySettings

PLAN: tuple[Mode, ...] = ("critique", "verdict", "verdict", "critique")
TOKENS = {"prompt tokens": "vllm:prompt_tokens_total", "tokens written": "vllm:generation_tokens_total"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rollouts", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--max-tokens", type=int, default=64)
    arguments = parser.parse_args()
    cases = read_cases(arguments.rollouts, arguments.pairs, arguments.rows).cases
    settings = ProxySettings(
        tensor_parallel_size=1,
        max_model_len=context_length(arguments.model, 0, 4096),
        max_num_seqs=16,
        max_tokens=arguments.max_tokens,
    )
    with tempfile.TemporaryDirectory() as name, serve(arguments.model, settings, Path(name), device="cpu") as serving:
        show(measure(Endpoints.read(serving.endpoints_file), cases))


def measure(endpoints: Endpoints, cases: Iterable[Case], warm_up: int = 4) -> dict[Mode, dict[str, float]]:
    """Sums over all judgements of a mode; the replica's processes must be children of this one."""
    parts: list[list[Case]] = [[], [], [], []]
    for case in {case.key: case for case in cases}.values():
        parts[int(case.pair, 16) % 4].append(case)
    sums: dict[Mode, dict[str, float]] = {mode: defaultdict(float) for mode in MODES}
    first, second, parts[0] = parts[0][:warm_up], parts[0][warm_up : 2 * warm_up], parts[0][2 * warm_up :]
    asyncio.run(judged(endpoints, "critique", first))  # the first requests of a server are slow
    asyncio.run(judged(endpoints, "verdict", second))
    for mode, part in zip(PLAN, parts, strict=True):
        before = counted(endpoints)
        verdicts = asyncio.run(judged(endpoints, mode, part))
        for what, value in counted(endpoints).items():
            sums[mode][what] += value - before[what]
        sums[mode]["judgements"] += len(part)
        sums[mode]["without verdict"] += len(part) - verdicts
    return sums


def show(sums: dict[Mode, dict[str, float]]) -> None:
    print(f"{'per judgement':18}" + "".join(f"{mode:>12}" for mode in MODES) + f"{'ratio':>9}")
    for what in (*TOKENS, "CPU ms", "ms, 16 at a time"):
        critique, verdict = (sums[mode][what] / sums[mode]["judgements"] for mode in MODES)
        print(f"{what:18}{critique:12.1f}{verdict:12.1f}{critique / verdict:9.2f}")
    for what in ("judgements", "without verdict"):
        print(f"{what:18}" + "".join(f"{sums[mode][what]:12.0f}" for mode in MODES))


async def judged(endpoints: Endpoints, mode: Mode, cases: list[Case]) -> int:
    """Number of verdicts."""
    client = ProxyClient(endpoints, mode=mode, max_in_flight_per_replica=16)
    calls = (client.judge(c.question, c.response_1, c.response_2, c.rubric, c.images, c.label) for c in cases)
    judgements = await asyncio.gather(*calls)
    await client.aclose()
    return sum(judgement.verdict is not None for judgement in judgements)


def counted(endpoints: Endpoints) -> dict[str, float]:
    """The replica's counters and CPU time since its start."""
    headers = {"Authorization": f"Bearer {endpoints.api_key}"}
    response = httpx.get(f"{endpoints.replicas[0]}/metrics", headers=headers, trust_env=False)
    lines = response.raise_for_status().text.splitlines()
    counts = {what: sum(float(x.split()[-1]) for x in lines if x.startswith(name)) for what, name in TOKENS.items()}
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    counts["CPU ms"] = 1000 * sum(spent.user + spent.system for spent in times)
    return counts | {"ms, 16 at a time": 1000 * time.monotonic()}


if __name__ == "__main__":
    main()
