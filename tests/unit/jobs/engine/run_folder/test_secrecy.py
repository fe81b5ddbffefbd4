"""Secrets among settings are refused before anything is written, and are not shown in the refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.engine.request import Request
from jobs.engine.run_folder.secrecy import refuse
from jobs.engine.sweep import Cell
from jobs.recipes import resolve
from jobs.recipes.proxy_grm import RECIPE, paper
from proxygrm.core.settings import with_assignments
from slurm import profile as profiles
from support.refusals import refused

PLANTED = (
    "https://me:hunter22@host/v1",
    "http://:hunter22@host",
    "https://host/v1?api_key=hunter22",
    "https://host/v1?a=b&TOKEN=hunter22",
    "sk-proj-hunter22hunter22",
    "hf_hunter22hunter22hunter22",
    "export SWANLAB_API_KEY=hunter22",
    "export HF_TOKEN='hunter22'",
)


@pytest.mark.parametrize("text", PLANTED)
def test_a_secret_in_a_setting_is_refused_by_name_and_not_repeated(text: str) -> None:
    with refused("settings.secret", path="settings.distill.teacher") as caught:
        refuse(with_assignments(paper(), [f"distill.teacher={text}"]), "settings")
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8000/v1",
        "https://host/v1?model=big",
        "/home/me/key",
        "me@host:/data",
        "export SWANLAB_API_KEY=$(cat ~/.key)",
        "export HF_TOKEN=$MY_TOKEN",
        'export HF_TOKEN="$MY_TOKEN"',
        "ulimit -n 65536",
        "rubric: weigh tokens=5 and more",
        "sk-learn",
    ],
)
def test_ordinary_settings_are_not_taken_for_secrets(text: str) -> None:
    refuse({"a": [text, {"b": text}], "c": 3}, "settings")


def test_no_shipped_preset_or_profile_holds_one() -> None:
    for make in RECIPE.presets.values():
        refuse(make(), "settings")
    for name in profiles.names():
        refuse(profiles.load(name), name)


def test_a_request_with_one_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with refused("settings.secret", kind="a password in a URL"):
        resolve(Request(profile="h100", assignments=("distill.teacher=https://me:hunter22@host/v1",)))
    cell = Cell("secret", ("grm_rl.seed=2", "evaluate.judge=sk-0123456789abcdef0123"))
    with refused("settings.secret", kind="an API key", path="cell secret.evaluate.judge"):
        resolve(Request(profile="h100", ablation=(cell,)))
    site = tmp_path / "site.toml"
    site.write_text('[environment]\nsetup = ["export WANDB_API_KEY=hunter22"]\n')
    with refused("settings.secret", kind="a secret set in shell text") as caught:
        resolve(Request(profile=str(site)))
    assert "hunter22" not in str(caught.value)
