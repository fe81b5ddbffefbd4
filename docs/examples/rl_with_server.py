"""RL of one's own: own prompts, own reward, and a server that the reward asks, on as many nodes as it needs.

    {"question": "How many dots?", "image": "7.png", "answer": "4"}      questions.jsonl, a line for each prompt

proxygrm plan   --recipe docs/examples/rl_with_server.py --set questions=questions.jsonl --set images=folder
proxygrm submit --recipe docs/examples/rl_with_server.py --nodes 4 --set train.services_nodes=2 --run runs/dots --watch
"""

from __future__ import annotations

import json
import os
import random
import re
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jobs.engine.recipe import Recipe
from jobs.engine.stage import Artifact, Given, OnNodes, Stage, StageRun
from jobs.stages.training import rl
from proxygrm.rewards.function import Function
from proxygrm.serving.services.command import CommandServer
from slurm.sbatch import Resources

HERE = str(Path(__file__).absolute())


@dataclass(frozen=True)
class Prepare(OnNodes):
    held_out: int = 64
    """Questions to validate with; the others train."""


@dataclass(frozen=True)
class Train(rl.Settings):
    services_nodes: int = 1
    """Nodes of the job that run the checker; the others train."""


@dataclass(frozen=True)
class Config:
    questions: str = "questions.jsonl"
    images: str = "images"
    """Folder of the images that the questions name."""
    policy: str = "Qwen/Qwen2.5-VL-3B-Instruct"
    prepare: Prepare = field(default_factory=Prepare)
    train: Train = Train(
        reward=Function(file=HERE, name="score"),
        max_response_length=1024,
        on=Resources(nodes=2, gpus_per_node=8, cpus_per_task=64, mem_gb=900, timeout_min=720),
    )


def chain(c: Config) -> list[Stage]:
    """Questions in, a policy that answers them better out."""
    rows = Stage(
        name="prepare",
        run=prepare,
        needs={"questions": Given(c.questions), "images": Given(c.images)},
        makes=(Artifact("train.parquet"), Artifact("held_out.parquet")),
        config=c.prepare,
        on=c.prepare.on,
    )
    # Any command line can be a service: `vllm serve {model} --host {address} --port {port}`, a search engine, a
    # sandbox. This one is at the end of this file.
    checker = CommandServer(
        name="checker",
        command=("{python}", "{file}"),
        needs={"file": Given(HERE)},
        nodes=c.train.services_nodes,
    )
    policy = rl.stage(
        "train",
        policy=c.policy,
        train=rows / "train.parquet",
        validation=rows / "held_out.parquet",
        settings=c.train,
        services=(checker,),
    )
    return [rows, policy]


def prepare(run: StageRun) -> None:
    """Rows as verl reads them. `ground_truth` is any text, `extra_info` is handed to the reward."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    rows = [
        {
            "data_source": "questions",
            "prompt": [{"role": "user", "content": f"<image>{row['question']} Answer with a number."}],
            "images": [{"bytes": (run.inputs["images"] / row["image"]).read_bytes()}],
            "reward_model": {"style": "rule", "ground_truth": row["answer"]},
            "extra_info": {"id": f"line {number}"},
        }
        for number, row in enumerate(map(json.loads, run.inputs["questions"].read_text().splitlines()), 1)
    ]
    for name, part in ("held_out", rows[: run.config.held_out]), ("train", rows[run.config.held_out :]):
        write_table(pa.Table.from_pylist(part), run.out / f"{name}.tmp")
        (run.out / f"{name}.tmp").rename(run.out / f"{name}.parquet")


async def score(rollout) -> dict[str, float]:
    """The reward of one rollout: what the checker says. What it raises leaves the rollout unscored, and is counted."""
    import aiohttp

    url = random.choice(rollout.services["checker"])  # one for each of its nodes
    request = {"text": rollout.text, "answer": rollout.label}
    headers = {"Authorization": f"Bearer {rollout.service_keys['checker']}"}
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(f"{url}/check", json=request, headers=headers) as answer,
    ):
        return await answer.json(content_type=None)


class Checker(BaseHTTPRequestHandler):
    """The server: a point for the right number, and a tenth for any."""

    def do_GET(self) -> None:
        self.reply(200, {})

    def do_POST(self) -> None:
        if self.headers["Authorization"] != f"Bearer {os.environ['SERVICE_API_KEY']}":
            return self.reply(401, {"error": "the key is missing"})
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        numbers = re.findall(r"-?\d+", request["text"])
        right = numbers[-1:] == [request["answer"]]
        self.reply(200, {"score": 1.0 if right else 0.1 * bool(numbers), "right": float(right)})

    def reply(self, status: int, body: dict) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


def demo() -> Config:
    """A tiny model on the private cluster's CPUs."""
    small = Resources(nodes=2, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=15)
    train = replace(Train.demo(max_steps=1), reward=Config().train.reward, on=small)
    return Config(policy="tiny-qwen2.5-vl", prepare=Prepare(held_out=8), train=train)


RECIPE = Recipe(name="dots", chain=chain, presets={"default": Config, "demo": demo}, nodes=("train",))

if __name__ == "__main__":
    here = os.environ["SERVICE_ADDRESS"], int(os.environ["SERVICE_PORT"])
    ThreadingHTTPServer(here, Checker).serve_forever()
