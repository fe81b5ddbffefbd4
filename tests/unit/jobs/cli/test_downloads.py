"""`proxygrm plan --downloads`: what is here, what is not, and the command for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.refusals import code_of
from support.run_folders.run_commands import here, say
from support.small_checkpoints import write_checkpoint

__all__ = ["here"]
"""The fixture every test of this file runs in."""

PAPER = ("plan", "--downloads", "--recipe", "proxy_grm:paper")
QWEN_7B, QWEN_3B = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def known(hub: Path, name: str) -> Path:
    """A model whose revision the cache knows; its snapshot's folder, which does not exist yet."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    return folder / "snapshots" / REVISION


def listed(*words: str) -> dict[str, dict]:
    found = say(*PAPER, "--json", *words)
    assert found.exit_code == 0, found.output
    return {row["name"]: row for row in json.loads(found.stdout)}


def test_every_input_is_listed_once_with_its_stages_and_the_command_that_fetches_it(hub: Path) -> None:
    known(hub, QWEN_3B)
    rows = listed()
    assert rows[QWEN_7B]["stages"] == ["proxy_sft", "grm_sft", "evaluate"]
    assert (rows[QWEN_7B]["state"], rows[QWEN_7B]["command"]) == ("missing", f"hf download {QWEN_7B}")
    assert rows[QWEN_3B]["command"] == f"hf download {QWEN_3B} --revision {REVISION}"
    assert rows["data/pairs"]["stages"] == ["distill", "split"]
    assert rows["data/pairs"]["command"] == "proxygrm data ingest SOURCE PATH --out data/pairs"
    assert rows["data/pairs"]["size"] is None
    assert set(listed("grm_sft")) == set(rows) - {"data/held_out", QWEN_3B}, "only what these stages need"
    table = say(*PAPER)
    assert table.exit_code == 0
    assert f"hf download {QWEN_7B}\n" in table.stdout


def test_a_model_in_the_hub_s_cache_or_in_a_folder_is_here_with_its_size(hub: Path, tmp_path: Path) -> None:
    snapshot, own = known(hub, QWEN_7B), tmp_path / "own model"
    for folder in (snapshot, own):
        folder.mkdir(parents=True)
        write_checkpoint(folder)
    weights = snapshot / "model.safetensors"
    weights.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    blob = hub / "blob"
    weights.rename(blob)
    weights.symlink_to(blob)  # as the hub's cache keeps it
    (own / "model.safetensors").unlink()
    rows = listed("--set", f"transfer.judge={own}")
    model = rows[QWEN_7B]
    assert (model["state"], model["revision"], model["command"]) == ("here", REVISION, "")
    assert model["size"] == sum(file.stat().st_size for file in snapshot.iterdir())
    judge = rows[str(own)]
    assert (judge["state"], judge["revision"], judge["command"]) == ("not usable", "", "")
    assert "model.safetensors" in judge["problem"]


@pytest.mark.parametrize(
    ("words", "option"), [(("--downloads", "--script"), "--script"), (("--json",), "--json")], ids=str
)
def test_an_option_without_an_effect_is_refused(words: tuple[str, ...], option: str) -> None:
    found = say("plan", *words)
    assert (found.exit_code, code_of(found.output)) == (2, "option.no-effect")
    assert option in found.output
