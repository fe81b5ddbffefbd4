"""Distillation: a teacher writes a critique for every pair. An array element a shard, resumed at the row."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.stage import StageRun
from proxygrm.errors import UserError

RULE_BASED = "rule-based"


@dataclass(frozen=True)
class Sampling:
    """How the teacher is asked, and how it is served when it is a checkpoint."""

    temperature: float = 0.0
    max_tokens: int = 4096
    concurrency: int = 64
    timeout_s: float = 600.0
    api_key_file: str = ""
    """0600 file with the key of a remote endpoint; empty when it wants none."""
    tensor_parallel: int = 8
    max_model_len: int = 32000
    error_rate: float = 0.35
    """Only of the rule-based teacher: share of pairs it misreads."""


@dataclass(frozen=True)
class Settings:
    teacher: str
    """A checkpoint, the URL of an OpenAI-compatible endpoint, or `rule-based` (the demo's stand-in)."""
    shards: int
    sampling: Sampling


def is_service(teacher: str) -> bool:
    return teacher == RULE_BASED or teacher.startswith(("http://", "https://"))


def write_critiques(run: StageRun) -> None:
    from proxygrm.distill import distill

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
                temperature=settings.sampling.temperature,
                max_tokens=settings.sampling.max_tokens,
                concurrency=settings.sampling.concurrency,
                timeout_s=settings.sampling.timeout_s,
                api_key_file=api_key,
                progress=run.progress,
            )
        )


@contextmanager
def endpoint(run: StageRun) -> Iterator[tuple[str, str, str | None]]:
    """URL, model name and key file of the teacher, served inside this job unless it is a remote endpoint."""
    settings: Settings = run.config
    raise UserError(f"teacher {settings.teacher!r} cannot be served yet")
    yield "", "", None
