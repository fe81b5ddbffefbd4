"""A teacher for a stage: an endpoint, a checkpoint served inside the job, or a rule-based stand-in of the demo."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jobs.engine.stage import Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import writing
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.serving.settings import CONTEXT, ProxySettings
from slurm.profile import Profile

RULE_BASED = "rule-based"
TEACHER_START_S = 300.0


@dataclass(frozen=True)
class TeacherSettings(OnNodes):
    """How the teacher is called, and how it is served when it is a checkpoint."""

    teacher: str = RULE_BASED
    """A checkpoint, the URL of an OpenAI-compatible endpoint, or `rule-based` (the demo's stand-in)."""
    teacher_model: str = "teacher"
    """Name to ask for, where the teacher is a remote endpoint."""
    tries: int = 1
    seed: int = 0
    """The seeds of several tries are drawn from it."""
    shards: int = 1
    """Elements of the job array."""
    temperature: float = 0.0
    max_tokens: int = 4096
    """Longest answer, in tokens."""
    concurrency: int = 64
    timeout_s: float = 600.0
    api_key_file: str = ""
    """0600 file with the key of a remote endpoint; empty when it wants none."""
    tensor_parallel_size: int = 8
    max_model_len: int = 0
    """Prompt and answer of a served teacher, in tokens. 0: what the checkpoint allows, at most 32,000."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint; otherwise such a checkpoint is refused."""

    def __post_init__(self) -> None:
        check_bounds(
            "teacher",
            self,
            positive=("timeout_s",),
            from_one=("shards", "tries", "max_tokens", "concurrency", "tensor_parallel_size"),
            from_zero=("temperature", "max_model_len"),
        )
        if self.max_tokens >= (length := self.max_model_len or CONTEXT):
            raise UserError(
                f"teacher: max_tokens {self.max_tokens} leaves no room for a prompt in max_model_len {length}",
                code="settings.no-room-for-prompt",
                max_tokens=self.max_tokens,
                max_model_len=length,
            )

    def need_temperature(self, tries: int, why: str) -> None:
        """UserError where there are more than so many tries at temperature 0. why: the next one is of no use."""
        if self.tries > tries and self.temperature == 0 and self.teacher != RULE_BASED:
            raise UserError(
                f"teacher: tries is {self.tries}, but at temperature 0 {why}; give one, 0.3 say",
                code="settings.contradiction",
                tries=self.tries,
            )


class RuleBased(NamedTuple):
    """The demo's stand-in for a teacher."""

    model: str
    """The name that it serves."""
    module: str
    """A program that takes --port and --port-file."""
    options: Sequence[str] = ()


PROCESS_RULES = RuleBased("rule-process", "proxygrm.demo.process_service")
"""Of all models of process reward."""


class Called(NamedTuple):
    """Where the teacher is."""

    url: str
    model: str
    api_key_file: str | None


def is_service(teacher: str) -> bool:
    return teacher == RULE_BASED or teacher.startswith(("http://", "https://"))


def needs(settings: TeacherSettings, stage: str) -> dict[str, Given | Output]:
    """What a stage of this name needs of the teacher: the checkpoint, if it is one."""
    teacher = settings.teacher
    return {} if is_service(teacher) else {"teacher": checks.checkpoint(teacher, stage, settings.trust_remote_code)}


def validate(stage: Stage, profile: Profile) -> None:
    checks.on_one_node(stage, profile, "; more machines share the work by `shards`")
    if not is_service(stage.config.teacher):
        checks.serves_here(stage, profile, stage.config.tensor_parallel_size)


@contextmanager
def called(run: StageRun, rule_based: RuleBased) -> Iterator[Called]:
    """The teacher, served inside this job unless it is a remote endpoint."""
    settings: TeacherSettings = run.config
    if settings.teacher == RULE_BASED:
        with rule_based_service(run, rule_based) as url:
            yield Called(url, rule_based.model, None)
    elif is_service(settings.teacher):
        yield Called(settings.teacher, settings.teacher_model, settings.api_key_file or None)
    else:
        with _served(run) as served:
            yield served


@contextmanager
def rule_based_service(run: StageRun, rule_based: RuleBased) -> Iterator[str]:
    """The stand-in as a process of its own, behind the same HTTP interface as a real teacher; its URL."""
    folder = Path(tempfile.mkdtemp(prefix="pgteacher-"))
    port_file = folder / "port"
    command = [sys.executable, "-m", rule_based.module, "--port", "0"]
    command += ["--port-file", str(port_file), *rule_based.options]
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
def _served(run: StageRun) -> Iterator[Called]:
    """The teacher checkpoint behind vLLM on this node's GPUs; the key lives as long as the server."""
    from proxygrm.serving.endpoints import Endpoints
    from proxygrm.serving.replicas.serve import serve

    settings: TeacherSettings = run.config
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
        endpoints = Endpoints.read(serving.endpoints_file)
        key_file = folder / "api_key"
        key_file.touch(mode=0o600)
        with writing(key_file):
            key_file.write_text(endpoints.api_key)
        try:
            yield Called(endpoints.replicas[0], endpoints.model, str(key_file))
        finally:
            key_file.unlink(missing_ok=True)
