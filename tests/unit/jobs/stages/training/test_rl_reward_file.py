"""The file with a user's reward function as an input of the RL stage: planned, fingerprinted, checked in the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.engine.check import find_problems, missing_inputs
from jobs.engine.plan import Planned
from jobs.engine.request import Request, Resolved
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Stage, StageRun
from jobs.recipes import resolve
from jobs.stages.training.rl import with_reward_file
from proxygrm.core.settings import from_table
from proxygrm.rewards import REWARDS
from proxygrm.rewards.function import Function
from support.refusals import refused


def asked(folder: Path, *assignments: str) -> Resolved:
    function = ("grm_rl.reward=function", *assignments)
    return resolve(Request(profile="h100", assignments=function, folder=str(folder)))


def rl(resolved: Resolved) -> Stage:
    return next(stage for stage in resolved.stages if stage.name == "grm_rl")


def mine(folder: Path, text: str = "def score(rollout): return 1\n") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "mine.py"
    path.write_text(text)
    return path


def test_the_content_of_the_file_counts_and_not_its_path(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    mine(here), mine(there)
    first = rl(asked(here, "grm_rl.reward.file=mine.py"))
    assert first.input_paths(tmp_path)["reward"] == here / "mine.py"
    assert first.config.reward == Function("")
    again = rl(asked(tmp_path, f"grm_rl.reward.file={there / 'mine.py'}"))
    assert again.fingerprint() == first.fingerprint()
    mine(there, "def score(rollout): return 2\n")
    changed = rl(asked(there, "grm_rl.reward.file=mine.py"))
    other = rl(asked(here, "grm_rl.reward.file=mine.py", "grm_rl.reward.name=points"))
    assert len({first.fingerprint(), changed.fingerprint(), other.fingerprint()}) == 3


@pytest.mark.parametrize(
    ("text", "assignments", "code", "said"),
    [
        (None, ("reward.file=mine.py",), "submit.missing-input", "grm_rl needs reward at mine.py: there is no file"),
        ("\nimport no_such_package\n", ("reward.file=mine.py",), "reward.does-not-import", "mine.py:2: ModuleNotFound"),
        ("def scores(rollout): ...\n", ("reward.file=mine.py",), "reward.no-function", "did you mean 'scores'?"),
        ("def score(): ...\n", ("reward.file=mine.py",), "reward.wrong-arguments", "mine.py:1: score() is called with"),
    ],
)
def test_a_plan_refuses_a_file_that_the_job_could_not_use(
    tmp_path: Path, text: str | None, assignments: tuple[str, ...], code: str, said: str
) -> None:
    if text is not None:
        mine(tmp_path, text)
    stage = rl(asked(tmp_path, *(f"grm_rl.{one}" for one in assignments)))
    (problem,) = [one for one in missing_inputs([stage]) if "reward" in one.text]
    assert problem.code == code
    assert said in problem.text


def test_a_plan_asks_for_the_file_where_none_is_named(tmp_path: Path) -> None:
    resolved = asked(tmp_path)
    planned = [Planned(rl(resolved), "run", "", "")]
    texts = [problem.text for problem in find_problems(planned, resolved.profile, tmp_path, ask_scheduler=False)]
    assert any("reward=function needs its file: --set grm_rl.reward.file=PATH" in text for text in texts)


def test_a_file_that_was_edited_after_the_stage_was_sent_does_not_reward_the_rest(tmp_path: Path) -> None:
    path = mine(tmp_path)
    resolved = asked(tmp_path, "grm_rl.reward.file=mine.py")
    stage, ledger = rl(resolved), Ledger(tmp_path / "run")
    ledger.prepare(stage, stage.fingerprint())
    inputs = stage.input_paths(ledger.folder)
    run = StageRun(stage, ledger.folder, resolved.profile, inputs, lambda *_: None)
    assert with_reward_file(run, stage.config).reward == Function(str(path))
    mine(tmp_path, "def score(rollout): return 100\n")
    with refused("rl.reward-changed", path=path):
        with_reward_file(run, stage.config)
    ledger.prepare(stage, "of a job that was sent again")
    stage = rl(asked(tmp_path, "grm_rl.reward.file=mine.py"))
    assert with_reward_file(StageRun(stage, ledger.folder, resolved.profile, inputs, lambda *_: None), stage.config)


def test_other_rewards_need_no_file(tmp_path: Path) -> None:
    for name in ("proxy_agreement", "accuracy"):
        stage = rl(resolve(Request(profile="h100", assignments=(f"grm_rl.reward={name}",))))
        assert "reward" not in stage.needs
        assert stage.config.reward == REWARDS[name]()
        assert from_table(type(stage.config.reward), {}, "a table") == REWARDS[name]()
