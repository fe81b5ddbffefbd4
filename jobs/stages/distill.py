"""Distillation: a teacher writes a critique for every pair, or tries until it is right. An array element a shard,
resumed at the row."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import writing
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.critique.contracts import CONTRACTS, KINDS, PROXY_GRM, Contract
from proxygrm.serving.settings import CONTEXT, ProxySettings
from slurm.profile import Profile

RULE_BASED = "rule-based"
TEACHER_START_S = 60.0
ROW = 200
"""Bytes of a critique's id, verdict and model."""


@dataclass(frozen=True)
class Settings(OnNodes):
    """How the teacher is asked, and how it is served when it is a checkpoint."""

    teacher: str = RULE_BASED
    """A checkpoint, the URL of an OpenAI-compatible endpoint, or `rule-based` (the demo's stand-in)."""
    teacher_model: str = "teacher"
    """Name to ask for, where the teacher is a remote endpoint."""
    contract: Contract = PROXY_GRM
    """What the teacher writes: Proxy-GRM's critique, or R1-Reward's judgement (`r1`)."""
    tries: int = 1
    """At a pair, until one is right: each has the responses in the other order and another seed. How many it took says
    how hard the pair is (`split`)."""
    seed: int = 0
    """The seeds of several tries are drawn from it."""
    shards: int = 1
    """Elements of the job array."""
    temperature: float = 0.0
    max_tokens: int = 4096
    concurrency: int = 64
    timeout_s: float = 600.0
    api_key_file: str = ""
    """0600 file with the key of a remote endpoint; empty when it wants none."""
    tensor_parallel_size: int = 8
    max_model_len: int = 0
    """Prompt and answer of a served teacher, in tokens. 0: what the checkpoint allows, at most 32,000."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint; otherwise such a checkpoint is refused."""
    error_rate: float = 0.2
    """Only of the rule-based teacher: share of clear images it misreads."""
    fog_error_rate: float = 0.5
    """The same for images in fog."""

    def __post_init__(self) -> None:
        check_bounds(
            "teacher",
            self,
            positive=("timeout_s",),
            from_one=("shards", "tries", "max_tokens", "concurrency", "tensor_parallel_size"),
            from_zero=("temperature", "max_model_len"),
            shares=("error_rate", "fog_error_rate"),
            choices={"contract": CONTRACTS},
        )
        if self.tries > 2 and self.temperature == 0 and self.teacher != RULE_BASED:
            raise UserError(
                f"teacher: tries is {self.tries}, but at temperature 0 the third is asked what the first was; give "
                "one, 0.3 say",
                code="settings.contradiction",
                tries=self.tries,
            )
        if self.max_tokens >= (length := self.max_model_len or CONTEXT):
            raise UserError(
                f"teacher: max_tokens {self.max_tokens} leaves no room for a prompt in max_model_len {length}",
                code="settings.no-room-for-prompt",
                max_tokens=self.max_tokens,
                max_model_len=length,
            )


def is_service(teacher: str) -> bool:
    return teacher == RULE_BASED or teacher.startswith(("http://", "https://"))


def stage(name: str, *, pairs: Given, settings: Settings) -> Stage:
    """Makes `critiques`, a folder with a JSONL file per shard."""
    teacher = settings.teacher
    needs = {} if is_service(teacher) else {"teacher": checks.checkpoint(teacher, name, settings.trust_remote_code)}
    return Stage(
        name=name,
        run=write_critiques,
        needs={"pairs": pairs, **needs},
        makes=(Artifact("critiques"),),
        on=settings.on,
        validate=validate,
        config=settings,
        prompts=(KINDS[settings.contract].prompt,),
        array=settings.shards,
        disk=disk,
    )


def write_critiques(run: StageRun) -> None:
    from proxygrm.teacher.distill import distill

    settings: Settings = run.config
    folder = run.out / "critiques"
    folder.mkdir(parents=True, exist_ok=True)
    with endpoint(run) as (url, model, api_key):
        asyncio.run(
            distill(
                pairs_dir=run.inputs["pairs"],
                out_file=folder / f"shard-{run.cell:03d}.jsonl",
                endpoint=url,
                model=model,
                shard=run.cell,
                shards=settings.shards,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                concurrency=settings.concurrency,
                timeout_s=settings.timeout_s,
                api_key_file=api_key,
                on_progress=run.progress,
                contract=settings.contract,
                tries=settings.tries,
                seed=settings.seed,
            )
        )


@contextmanager
def endpoint(run: StageRun) -> Iterator[tuple[str, str, str | None]]:
    """URL, model name and key file of the teacher, served inside this job unless it is a remote endpoint."""
    settings: Settings = run.config
    key_file = settings.api_key_file or None
    if settings.teacher == RULE_BASED:
        with _rule_based(run) as url:
            yield url, "rule-judge", None
    elif is_service(settings.teacher):
        yield settings.teacher, settings.teacher_model, key_file
    else:
        with _served(run) as (url, model, served_key):
            yield url, model, served_key


@contextmanager
def _rule_based(run: StageRun) -> Iterator[str]:
    """The demo's stand-in teacher as a process of its own, behind the same HTTP interface as a real one."""
    settings: Settings = run.config
    folder = Path(tempfile.mkdtemp(prefix="pgteacher-"))
    port_file = folder / "port"
    command = [sys.executable, "-m", "proxygrm.demo.rule_judge", "--host", "127.0.0.1", "--port", "0"]
    command += ["--port-file", str(port_file), "--error-rate", str(settings.error_rate)]
    command += ["--fog-error-rate", str(settings.fog_error_rate)]
    try:
        with ChildProcess(command, run.out / f"teacher-{run.cell:03d}.log") as teacher:
            deadline = time.monotonic() + TEACHER_START_S
            while not port_file.exists():
                if teacher.poll() is not None or time.monotonic() > deadline:
                    raise UserError(
                        f"the rule-based teacher did not start: it {teacher.how_it_ended()}", code="teacher.not-started"
                    )
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port_file.read_text().strip()}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _served(run: StageRun) -> Iterator[tuple[str, str, str]]:
    """The teacher checkpoint behind vLLM on this node's GPUs; the key lives as long as the server."""
    from proxygrm.serving.endpoints import Endpoints
    from proxygrm.serving.replicas.serve import serve

    settings: Settings = run.config
    server = ProxySettings(
        replicas=1,
        tensor_parallel_size=settings.tensor_parallel_size,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.concurrency,
        max_tokens=settings.max_tokens,
        trust_remote_code=settings.trust_remote_code,
        start_timeout_s=3600.0,  # 235B parameters from a shared file system
    )
    folder = run.out / f"teacher-{run.cell:03d}"
    with serve(run.inputs["teacher"], server, folder, device=run.profile.node.device) as serving:
        found = Endpoints.read(serving.endpoints_file)
        key_file = folder / "api_key"
        key_file.touch(mode=0o600)
        with writing(key_file):
            key_file.write_text(found.api_key)
        try:
            yield found.replicas[0], found.model, str(key_file)
        finally:
            key_file.unlink(missing_ok=True)


def disk(stage: Stage, need: Needs) -> Space:
    """A critique for each pair and try, as long as it may be."""
    settings = stage.config
    rows = need("pairs").rows * settings.tries
    size = rows * (settings.max_tokens * TOKEN + ROW)
    return Space(size, {"critiques": Amount(size, rows)})


def validate(stage: Stage, profile: Profile) -> None:
    checks.on_one_node(stage, profile, "; more machines share the work by `shards`")
    if not is_service(stage.config.teacher):
        checks.serves_here(stage, profile, stage.config.tensor_parallel_size)
