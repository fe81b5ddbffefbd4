"""A recipe file of a user's own: found by its path, checked with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.engine.plan import Facts, plan, unfit
from jobs.engine.recipe import own_file, split_name, with_file
from jobs.engine.request import KEPT_RECIPE, Request, asked_before, save
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.space.forecast import forecast
from jobs.recipes import RECIPES, find, of_run, resolve
from slurm.profile import load
from support.refusals import refused

HEAD = """
from dataclasses import dataclass
from jobs.engine.recipe import Recipe
from jobs.engine.stage import Artifact, OnNodes, Output, Stage


@dataclass(frozen=True)
class Settings(OnNodes):
    rows: int = 3


@dataclass(frozen=True)
class Config:
    first: Settings = Settings()
    second: Settings = Settings()


def work(run): ...


def stage(name, settings, **needs):
    return Stage(name=name, run=work, makes=(Artifact("rows"),), on=settings.on, config=settings, needs=needs)


"""
GOOD = """def chain(c):
    first = stage("first", c.first)
    return [first, stage("second", c.second, rows=first / "rows")]


RECIPE = Recipe(name="mine", chain=chain, presets={"small": Config}, nodes=("second",))
"""
REVERSED = GOOD.replace("[first, stage(", "[stage(").replace('rows")]', 'rows"), first]')
CIRCLE = GOOD.replace("c.first)", 'c.first, rows=stage("second", c.second) / "rows")')
ANY_CHAIN = ("lambda c: tuple(chain(c))", "lambda c: chain(c)[0]", "__import__('functools').partial(repr)")
BAD_NAMES = ("", ".", "../first", "a/b", "/tmp/first", "a b", "-first", "run.json", "a%jb", "x" * 101, "cells", "code")
STAGE = """def chain(c):
    return [Stage("first", {run}, ({makes},), {on}, needs={needs}, {more})]


RECIPE = Recipe(name="mine", chain=chain, presets={{"small": Config}})
"""
RIGHT = {"run": "work", "makes": 'Artifact("rows")', "on": "c.first.on", "needs": "{}", "more": ""}


def write(folder: Path, text: str) -> Path:
    path = folder / "my recipe.py"
    path.write_text(HEAD + text)
    return path


def test_a_recipe_file_gets_settings_nodes_and_presets_like_a_shipped_one(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    resolved = resolve(Request(recipe=f"{path}:small", nodes=3, assignments=("first.rows=5",)))
    first, second = resolved.stages
    assert (resolved.recipe.name, resolved.preset) == ("mine", "small")
    assert (first.config.rows, first.on.nodes, second.on.nodes) == (5, 1, 3)
    assert resolve(Request(recipe=str(path))).preset == "small", "the first, where the profile's is not among them"
    other = resolve(Request(recipe=str(path), assignments=("first.on.nodes=2",))).stages
    assert other[0].fingerprint() == resolve(Request(recipe=str(path))).stages[0].fingerprint()


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("import nowhere_to_be_found\n", "recipe.does-not-import", "import nowhere"),
        ("def chain(c:\n", "recipe.does-not-import", "def chain(c:"),
        ("chain = None\n", "recipe.no-recipe", ""),
        (GOOD.replace('"second"', '"first"'), "recipe.duplicate-stage", '"first", c.second'),
        (GOOD.replace('first / "rows"', 'first / "row"'), "stage.unknown-output", 'first / "row"'),
        (GOOD.replace('first / "rows"', 'stage("third", c.first) / "rows"'), "recipe.unlisted-stage", '"second"'),
        (REVERSED, "recipe.wrong-order", '"second"'),
        (GOOD.replace("c.second, rows", "c.secnod, rows"), "recipe.failed", "c.secnod"),
        (GOOD.replace("return [first, ", "return 3, ["), "recipe.not-a-chain", "def chain"),
        (CIRCLE, "recipe.circle", 'first = stage("first"'),
        ("raise SystemExit(0)\n", "recipe.does-not-import", "raise SystemExit"),
        (GOOD.replace("    first = ", "    raise SystemExit(0)\n    first = "), "recipe.failed", "raise SystemExit"),
        *[(GOOD.replace("chain=chain", f"chain={chain}"), "recipe.not-a-chain", "RECIPE = ") for chain in ANY_CHAIN],
        (GOOD.replace("chain=chain", "chain=None"), "recipe.does-not-import", "RECIPE = "),
        (GOOD.replace('("second",)', '"second"'), "recipe.does-not-import", "RECIPE = "),
        (GOOD.replace('{"small": Config}', "{}"), "recipe.no-recipe", ""),
        (GOOD.replace('{"small": Config}', "[Config]"), "recipe.does-not-import", "RECIPE = "),
        (GOOD.replace('{"small": Config}', '{"small": Config()}'), "recipe.does-not-import", "RECIPE = "),
        (GOOD.replace('{"small": Config}', '{"small": dict}'), "recipe.bad-preset", "RECIPE = "),
        (GOOD.replace('{"small": Config}', '{"small": lambda: 1 / 0}'), "recipe.failed", "RECIPE = "),
        (GOOD.replace('{"small": Config}', '{"small": lambda x: x}'), "recipe.failed", "RECIPE = "),
        *[(GOOD.replace('"first"', f'"{name}"'), "recipe.bad-stage", "first = stage(") for name in BAD_NAMES],
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_work_is_one_line_with_file_and_line(
    tmp_path: Path, text: str, code: str, place: str
) -> None:
    path = write(tmp_path, text)
    with refused(code) as caught:
        resolve(Request(recipe=str(path)))
    lines = (HEAD + text).splitlines()
    number = next((i for i, line in enumerate(lines, 1) if place and place in line), 1)
    assert str(caught.value).startswith(f"{path}:{number}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("run", "None"),
        ("run", "lambda: None"),
        ("makes", 'Artifact("../rows")'),
        ("makes", 'Artifact("/tmp/rows")'),
        ("makes", 'Artifact("")'),
        ("makes", '"rows"'),
        ("on", "None"),
        ("needs", "{'text': 'README.md'}"),
        ("needs", "{'text': None}"),
        ("needs", "['README.md']"),
        ("needs", "{'text': Stage('x', work, (), c.first.on)}"),
        ("needs", "{'text': __import__('jobs.engine.stage').engine.stage.Given('')}"),
        ("needs", "{'text': __import__('jobs.engine.stage').engine.stage.Given(None)}"),
        ("more", "array=0"),
        ("more", "array='3'"),
        ("more", "prompts=('no_such',)"),
        ("more", "config=object()"),
        ("more", "config=Settings"),
        ("more", "validate=3"),
        ("more", "disk='1 GB'"),
    ],
)
def test_a_stage_that_the_engine_cannot_use_is_one_line_with_file_and_line(
    tmp_path: Path, part: str, text: str
) -> None:
    path = write(tmp_path, STAGE.format(**RIGHT))
    assert resolve(Request(recipe=str(path))).identities
    path = write(tmp_path, STAGE.format(**{**RIGHT, part: text}))
    os.utime(path, ns=(1, 1))  # read again, whatever the clock
    with refused("recipe.bad-stage", stage="first") as caught:
        resolve(Request(recipe=str(path)))
    assert str(caught.value).startswith(f"{path}:{(HEAD + STAGE).splitlines().index(STAGE.splitlines()[1]) + 1}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_what_a_stage_says_of_itself_may_fail_and_is_one_line(tmp_path: Path) -> None:
    for number, (what, text) in enumerate([("lambda *_: 1 / 0", "fails"), ("lambda *_: None", "not a Space")], 1):
        path = write(tmp_path, STAGE.format(**{**RIGHT, "more": f"disk={what}, validate={what}"}))
        os.utime(path, ns=(number, number))
        stages = resolve(Request(recipe=str(path))).stages
        planned = plan(stages, {"first": Facts("new")})
        assert text in forecast(planned, tmp_path).stages[0].why
        reason = unfit(stages[0], load("local"))
        assert reason == ("first: its validate fails: ZeroDivisionError: division by zero" if number == 1 else None)


def test_what_a_recipe_prints_is_not_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("    first = ", "    print('built')\n    first = ").replace("RECIPE", "print('read')\nRECIPE")
    resolve(Request(recipe=str(write(tmp_path, text))))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "read\nbuilt\n")


@pytest.mark.parametrize(("mode", "runs"), [(0o666, False), (0o664, True)])
def test_a_recipe_that_every_user_may_write_is_not_run(tmp_path: Path, mode: int, runs: bool) -> None:
    path = write(tmp_path, GOOD)
    path.chmod(mode)
    if runs:
        assert find(str(path))[0].name == "mine"
        return
    with refused("recipe.foreign-file", path=path):
        find(str(path))


def test_an_unknown_recipe_or_preset_lists_what_there_is(tmp_path: Path) -> None:
    with refused("recipe.unknown", name="proxy_gmr", known=list(RECIPES)):
        find("proxy_gmr")
    assert find("proxy-grm:demo")[0].name == "proxy_grm"  # as the names of other recipes are written
    with refused("recipe.unknown") as caught:
        find("demo")
    assert "did you mean proxy_grm:demo?" in str(caught.value)
    with refused("recipe.unknown-preset", name="papr", known=["paper", "demo", "quick"]):
        resolve(Request(recipe="proxy_grm:papr"))
    with refused("recipe.missing-file"):
        find(str(tmp_path / "gone.py"))


@pytest.mark.parametrize(
    ("text", "name", "preset"),
    [
        ("proxy_grm", "proxy_grm", ""),
        ("proxy_grm:demo", "proxy_grm", "demo"),
        ("/a b/mine.py", "/a b/mine.py", ""),
        ("/a:b/mine.py", "/a:b/mine.py", ""),
        ("/a:b/mine.py:small", "/a:b/mine.py", "small"),
    ],
)
def test_a_recipe_s_name_is_taken_apart_in_one_way_whatever_its_path(text: str, name: str, preset: str) -> None:
    assert split_name(text) == (name, preset)
    assert own_file(text) == (Path(name) if name.endswith(".py") else None)
    assert with_file(text, Path("/new.py")) == ("/new.py:" + preset if preset else "/new.py")


def submitted(folder: Path) -> tuple[Path, Path]:
    """A run folder of a recipe file, and that file; nothing is sent."""
    folder.mkdir()
    path, run = write(folder, GOOD), folder / "run"
    save(resolve(Request(recipe=str(path))), Ledger(run))
    return run, path


@pytest.mark.parametrize("umask", [0o022, 0o002])
def test_a_run_can_be_looked_at_when_its_recipe_file_in_a_folder_with_a_colon_is_gone(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        run, path = submitted(tmp_path / "a:b")
    finally:
        os.umask(before)
    path.unlink()
    assert [stage.name for stage in of_run(run).stages] == ["first", "second"]


def test_no_recipe_is_run_that_somebody_else_named_or_wrote(tmp_path: Path) -> None:
    """Looking at a run executes its recipe file: what others may have put there is refused, not run."""
    run, path = submitted(tmp_path / "mine")
    (run / "run.json").chmod(0o666)
    for look in (of_run, asked_before):
        with refused("run.foreign-recipe", path=str(run / "run.json")):
            look(run)
    (run / "run.json").chmod(0o644)
    path.unlink()
    (run / KEPT_RECIPE).chmod(0o666)
    with refused("run.foreign-recipe", path=str(run / KEPT_RECIPE)):
        of_run(run)
