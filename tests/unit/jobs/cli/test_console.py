"""What plan, submit, status and their options say to a person, without a scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from rich.table import Table

from jobs import recipes
from jobs.cli.common import console
from jobs.cli.main import main
from jobs.cli.run.follow import status_table
from jobs.engine import request as requests
from jobs.engine.check import Problem
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.state import StageState
from proxygrm.core.errors import UserError


@pytest.fixture(autouse=True)
def without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(console, "out", Console(width=200, highlight=False))


@pytest.mark.parametrize("columns", ["20", "40", "80", "200"])
def test_no_figure_of_a_table_is_cut_on_a_narrow_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    narrow = console._Console(highlight=False)
    table = Table("what", "least", "median", "most")
    table.add_row("image bytes of the whole set", "9,304", "12,345,678", "99,346,021")
    with narrow.capture() as said:
        narrow.print(table)
        narrow.print("words " * 20)
    assert all(text in said.get() for text in ("image bytes of the whole set", "9,304", "12,345,678", "99,346,021"))
    assert narrow.width == int(columns)
    assert max(map(len, said.get().splitlines()[-3:])) <= max(int(columns), 6), (
        "other lines are as wide as the terminal"
    )


def say(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def site(tmp_path: Path, more: str = "") -> str:
    path = tmp_path / "my site.toml"
    path.write_text(f'[scheduler]\npartition = "gpu"\n{more}\n')
    return str(path)


def test_a_plan_without_a_scheduler_says_so_and_shows_scripts_files_and_the_ceiling(tmp_path: Path) -> None:
    run = tmp_path / "it's a run"
    answer = say("plan", "chain", "--profile", site(tmp_path), "--dry-run", "--hold", "--run", str(run))
    assert "planning without a scheduler: no SLURM here" in answer.output
    assert "#SBATCH --hold" in answer.output
    assert f"{run}/grm_rl/jobs/JOB_submission.sh" in answer.output
    assert "GPU-hours if every job uses its full time limit once" in answer.output
    assert not run.exists(), "a plan writes nothing"


def test_what_the_profile_forbids_is_refused_by_the_plan(tmp_path: Path) -> None:
    limits = "max_nodes = 2\nmax_walltime_min = 600"
    answer = say("plan", "grm_rl", "--profile", site(tmp_path, limits), "--nodes", "4", "--run", str(tmp_path / "run"))
    assert answer.exit_code == 2
    assert "grm_rl asks for 4 nodes, profile my site allows 2 (scheduler.max_nodes)" in answer.output


def test_only_some_cells_of_an_ablation_are_planned_with_what_they_need(tmp_path: Path) -> None:
    spec = tmp_path / "seeds.toml"
    spec.write_text('[grid]\n"grm_rl.seed" = [1, 2, 3]\n')
    where = ["--profile", site(tmp_path), "--run", str(tmp_path / "run"), "--dry-run"]
    answer = say("ablate", str(spec), "--only", "seed-[12]", *where)
    assert "cells/seed-2/evaluate/fingerprint" in answer.output
    assert "run/split/fingerprint" in answer.output
    assert "seed-3" not in answer.output
    assert f"{tmp_path}/run/ablations/seeds/run.json" in answer.output
    assert "seed-3" in say("ablate", str(spec), *where).output


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["plan", "--acount", "x"], "--account"),
        (["submit", "--reservatoin", "x"], "--reservation"),
        (["plan", "grm_rll"], "did you mean 'grm_rl'? [stage.unknown]"),
        (["plan", "--set", "grm_rl.max_unscord=1"], "did you mean 'max_unscored'?"),
        (["plan", "--recipe", "proxy_grm:papr"], "paper"),
        (["plan", "--profile", "h10"], "h100"),
        (["logs", "--atempt", "1"], "--attempt"),
    ],
)
def test_a_misspelt_word_names_the_nearest_one(tmp_path: Path, words: list[str], near: str) -> None:
    where = [] if "--profile" in words or words[0] != "plan" else ["--profile", site(tmp_path)]
    answer = say(*words, *where)
    assert answer.exit_code == 2
    assert near in answer.output


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for command in (["status"], ["why", "grm_rl"], ["logs"], ["cost"], ["cancel"]):
        answer = say(*command, "--run", str(tmp_path))
        assert answer.exit_code == 2
        assert "is not a run folder" in answer.output


def test_the_table_shows_markup_of_others_as_text(tmp_path: Path) -> None:
    rows = [
        StageState("a", "failed", "[red]no [/room] (on n1)", "7"),
        StageState("b", "running", "rows on n1", "8", 3, 10, 61.0),
        StageState("c", "done", "", "6", 1, 1, 12.0),
    ]
    with console.out.capture() as shown:
        console.out.print(status_table(rows, Ledger(tmp_path / "run")))
    text = shown.get()
    assert "[red]no [/room] (on n1)" in text
    assert "3/10, 61 s" in text
    assert "12 s" in text


def test_a_refusal_names_one_cell_of_each_kind_and_speaks_of_the_demo_s_data_only_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "three.toml"
    spec.write_text('[grid]\n"grm_rl.proxy.replicas" = [1, 2]\n"grm_rl.seed" = [1, 2, 3]\n')
    monkeypatch.setattr("jobs.engine.check.missing_inputs", lambda stages: [])
    answer = say("ablate", str(spec), "--dry-run", "--run", str(tmp_path / "run"))
    assert answer.exit_code == 2
    last = answer.output.splitlines()[-1]
    assert "cells/replicas-2_seed-1/grm_rl on 2 nodes x 1 GPU: proxy: 2 replicas of 1 GPUs do not fit" in last
    assert "more above" not in last
    assert "prepare-only" not in last
    monkeypatch.setattr(
        "jobs.engine.check.missing_inputs", lambda stages: [Problem("no pairs", "submit.missing-input")]
    )
    for recipe, words in (("proxy_grm", ()), ("unseen-proxy", ("--recipe", "unseen-proxy:demo"))):
        last = say("plan", "--run", str(tmp_path / recipe), *words).output.splitlines()[-1]
        assert f"`proxygrm demo --recipe {recipe} --prepare-only`" in last


def test_a_plan_says_how_to_start_the_private_cluster_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> None:
        raise UserError("SLURM does not answer: authentication error")

    monkeypatch.setattr("slurm.reach.require_slurm", silent)
    monkeypatch.setenv("PROXYGRM_CLUSTER_DIR", str(tmp_path / "cluster"))
    private = say("plan", "--run", str(tmp_path / "run")).output
    assert "planning without a scheduler: the private cluster is down (`proxygrm cluster up` starts it)\n" in private
    elsewhere = say("plan", "--profile", site(tmp_path), "--run", str(tmp_path / "run"))
    assert "planning without a scheduler: SLURM does not answer: authentication error\n" in elsewhere.output


def test_a_scheduler_that_is_down_is_said_in_its_own_words_without_the_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = "echo '*****'; echo '** RESTORE SLURMCTLD DAEMON TO SERVICE **'; echo '*****'; echo 'error: munge' >&2"
    for name in ("sbatch", "srun", "scontrol"):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\necho 'Slurmctld(primary) at login1 is DOWN'; {frame}; exit 1\n")
        script.chmod(0o755)
    answer = say("submit", "--profile", site(tmp_path), "--run", str(tmp_path / "run"))
    assert answer.output.splitlines()[1:] == [
        "proxygrm: SLURM does not answer: Slurmctld(primary) at login1 is DOWN [slurm.controller-down]"
    ]


def test_a_page_about_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = say("report", "--run", str(tmp_path))
    assert done.exit_code
    assert "is not a run folder (no run.json)" in f"{done.output}{done.exception}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("nodes", "said"), [("1", "grm_rl on 1 node x 8 GPU"), ("500", "grm_rl asks for 500 nodes")])
def test_a_stage_started_by_hand_is_judged_by_the_nodes_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: str, said: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "81")
    monkeypatch.setenv("SLURM_NNODES", nodes)
    answer = say("run-stage", "grm_rl", "--profile", "h100", "--run", str(tmp_path / "run"))
    assert said in answer.output
    assert answer.exit_code == 2


def test_the_report_of_a_run_has_one_place_and_one_option(tmp_path: Path) -> None:
    run = tmp_path / "run"
    requests.save(recipes.resolve(Request(profile="local")), Ledger(run))
    assert say("report", "--run", str(run)).exit_code == 0
    assert [str(path.relative_to(run)) for path in run.rglob("*.html")] == ["report/report.html"]
    for option in ("--out", "--output"):  # the older name is taken, and not shown
        assert say("report", "--run", str(run), option, str(tmp_path / f"page{option}.html")).exit_code == 0
        assert (tmp_path / f"page{option}.html").is_file()
    assert "--output" not in say("report", "--help").output
    assert "--output" not in say("reward", "score", "--help").output
