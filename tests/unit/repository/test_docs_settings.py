"""What the documentation tells people to set is there to be set."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.recipes import find
from jobs.recipes.proxy_grm import paper
from proxygrm.core.settings import CHOICES

ROOT = Path(__file__).parents[3]
PAGES, TEMPLATES = (sorted(ROOT.glob(each)) for each in ("docs/*.md", "slurm/templates/*.sbatch"))
TEXTS = [ROOT / "README.md", ROOT / "Makefile", *PAGES, *TEMPLATES]
GROUPS = [field.name for field in dataclasses.fields(paper()) if dataclasses.is_dataclass(getattr(paper(), field.name))]


OTHERS = {
    "recipes.md": [str(ROOT / "docs/examples/two_stages.py"), str(ROOT / "docs/examples/rl_with_server.py")],
    "policy-rl.md": ["policy-rl"],
    "r1-reward.md": ["r1-reward", "base-reward"],
    "scalar.md": ["base-reward"],
    "learn-to-judge.md": ["learn-to-judge"],
    "evpv-prm.md": ["evpv-prm"],
}
"""A page about other recipes -> their names or files."""


def known(name: str, page: str = "") -> bool:
    recipes = [find(recipe)[0] for recipe in OTHERS[page]] if page in OTHERS else [find("proxy_grm")[0]]
    values: list[Any] = [next(iter(recipe.presets.values()))() for recipe in recipes]
    for part in name.split("."):
        values = [inner for value in values if hasattr(value, part) for inner in parts_of(value, part)]
    return bool(values)


def parts_of(record: Any, name: str) -> list[Any]:
    """The value of a field, or all that a registry has for it."""
    choices = {field.name: field.metadata.get(CHOICES) for field in dataclasses.fields(record)}[name]
    return [kind() for kind in choices.values()] if choices else [getattr(record, name)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_value_that_a_text_sets_exists(path: Path) -> None:
    text = path.read_text()
    named = re.findall(r"--set\s+([a-z_]\w*(?:\.\w+)*)=", text)
    named += re.findall(rf"`((?:proxy|{'|'.join(GROUPS)})\.(?!sbatch`|json`|html`)\w+)`", text)
    assert [name for name in named if not known(name, path.name)] == []


def test_the_texts_are_really_read() -> None:
    assert "--set grm_rl.learning_rate=" in (ROOT / "Makefile").read_text()
    assert known("grm_rl.learning_rate")
    assert not known("grm_rl.lr")
    assert known("grm_rl.reward.file")
    assert not known("grm_rl.reward.path")
    assert not known("proxy.max_tokens")
