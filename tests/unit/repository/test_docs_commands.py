"""Every command and option that the documentation prints exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from jobs.cli.main import main

ROOT = Path(__file__).parents[3]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
ANYWHERE = {"--help", "-h", "--debug"}


def lines_of(text: str) -> list[str]:
    """What stands in code: lines of blocks (continued ones joined, comments cut) and inline code."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.split(" #")[0] for block in blocks for line in block.splitlines()] + [
        " ".join(code.split()) for code in inline
    ]


def commands_in(line: str, program: str) -> list[list[str]]:
    """Words after each `program` of a shell line."""
    parts = re.split(r"[;|&()\"]|\$\(", line)
    words = [re.sub(r"[\[\],]", " ", part).split() for part in parts]
    return [part[1:] for part in words if part and part[0] == program]


def problems(words: list[str]) -> list[str]:
    """Why `proxygrm WORDS` cannot be typed; [] where it can."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            return [f"{command.name} has no command {rest[0]!r}"]
        command, rest = found, rest[1:]
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | ANYWHERE
    typed = [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [f"{command.name} has no option {option}" for option in typed if option not in options]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_and_option_in_a_text_exists(path: Path) -> None:
    lines = lines_of(path.read_text())
    wrong = [(line, why) for line in lines for words in commands_in(line, "proxygrm") for why in problems(words)]
    assert wrong == []
    goals = [(line, words[0]) for line in lines for words in commands_in(line, "make") if words]
    assert [(line, goal) for line, goal in goals if re.match(r"[a-z]", goal) and goal not in TARGETS] == []


def test_a_wrong_command_or_option_would_be_noticed() -> None:
    assert problems(["data", "ingset"]) == ["data has no command 'ingset'"]
    assert problems(["plan", "--nodse", "4"]) == ["plan has no option --nodse"]
    assert (
        len([words for path in TEXTS for line in lines_of(path.read_text()) for words in commands_in(line, "proxygrm")])
        > 80
    )


@pytest.mark.parametrize("group", ["data", "eval", "process"])
def test_the_readme_lists_every_command_of_a_group(group: str) -> None:
    command = main.commands[group]
    assert isinstance(command, click.Group)
    rows = re.findall(rf"^\| `proxygrm {group} ([a-z, -]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(name for row in rows for name in row.split(", ")) == sorted(command.commands)
