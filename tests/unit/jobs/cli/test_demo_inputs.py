"""What `proxygrm demo` draws before a chain runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.run import demo
from jobs.engine import demo_inputs
from jobs.engine.demo_inputs import DemoInputs
from support.refusals import refused


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo_inputs, "__file__", str(tmp_path / "jobs" / "engine" / "demo_inputs.py"))
    return tmp_path


def test_inputs_are_drawn_once_and_again_when_what_decides_them_changes(checkout: Path) -> None:
    drawn: list[Path] = []

    def draw(folder: Path) -> None:
        drawn.append(folder)
        (folder / "made").write_text(str(len(drawn)))

    for rows in (5, 5, 6):
        demo.prepare(DemoInputs("few", {"rows": rows}, draw))
    assert len(drawn) == 2
    assert (checkout / ".local" / "few" / "made").read_text() == "2"


def test_a_drawing_that_fails_leaves_nothing_that_looks_finished(checkout: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "made").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        demo.prepare(DemoInputs("few", {}, fails))
    assert not (checkout / ".local" / "few").exists()
    demo.prepare(DemoInputs("few", {}, lambda folder: (folder / "whole").touch()))
    assert sorted(path.name for path in (checkout / ".local" / "few").iterdir()) == ["READY.json", "whole"]


def test_a_demo_has_its_own_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused("demo.preset-given", preset="paper"):
        demo.run(None, "proxy_grm:paper", quick=True, prepare_only=True)
    own = tmp_path / "mine.py"
    own.write_text(
        "from dataclasses import dataclass\n"
        "from jobs.engine.recipe import Recipe\n"
        "@dataclass(frozen=True)\n"
        "class Config: ...\n"
        "RECIPE = Recipe(name='mine', chain=lambda c: [], presets={'default': Config})\n"
    )
    with refused("recipe.unknown-preset", name="demo", known=["default"]):
        demo.run(None, str(own), quick=False, prepare_only=True)
    own.write_text(own.read_text().replace("'default'", "'demo'"))
    demo.run(None, str(own), quick=False, prepare_only=True)
    assert (tmp_path / "runs" / "demo-mine").is_dir()
