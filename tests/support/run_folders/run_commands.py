"""Commands that look at a run, called in a folder of runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from jobs import recipes
from jobs.cli.common import console
from jobs.cli.main import main
from jobs.engine import request as requests
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.stage import Stage

LOOKING = (["status"], ["why"], ["cost"], ["logs", "distill"], ["cancel"], ["plan"])


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with no run yet, no SLURM, and a private cluster that is down."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROXYGRM_CLUSTER_DIR", str(tmp_path / "cluster"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(console, "out", Console(width=200, highlight=False))


def say(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def asked(folder: str, when: float, *assignments: str, done: bool = False) -> tuple[Ledger, list[Stage]]:
    """A run folder that was asked for at that time; with done, every stage has its records and what it makes."""
    resolved = recipes.resolve(Request(recipe="proxy_grm:quick", assignments=assignments))
    ledger = Ledger(Path("runs") / folder)
    ledger.create()
    requests.save(resolved, ledger)
    os.utime(ledger.folder / "run.json", (when, when))
    for stage in resolved.stages if done else []:
        finish(ledger, stage)
    return ledger, resolved.stages


def finish(ledger: Ledger, stage: Stage) -> None:
    ledger.prepare(stage, stage.fingerprint())
    for artifact in stage.makes:
        path = ledger.folder / stage.name / artifact.path
        if artifact.path in ("model", "policy", "best"):
            path.mkdir(parents=True, exist_ok=True)
            (path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
            for name in ("tokenizer.json", "preprocessor_config.json"):
                (path / name).write_text("{}")
            (path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}\n")
    for cell in range(stage.array):
        ledger.write_done(stage, Done(stage.name, stage.fingerprint(), cell, 1.0, 3601.0, "7", ["n1"], 10))
    ledger.record_submissions({stage.name: ("7", stage.fingerprint())})


def sent(*words: str) -> Result:
    """What `submit` writes before it sends."""
    asked = dict.fromkeys(("partition", "account", "qos", "reservation", "nodes", "run", "recipe"))
    resolved, ledger = console.of_request({**asked, "recipe": "", "profile": words[0], "assignments": words[1:]})
    ledger.create()
    requests.save(resolved, ledger)
    return say("status")
