"""Which run a command is about, and what it shows when no scheduler can be asked."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from jobs.cli.common import console
from jobs.engine.request import Request
from jobs.engine.run_folder import changes
from jobs.engine.watch import advice
from proxygrm.core.errors import UserError
from proxygrm.core.files import owner
from support.refusals import code_of
from support.run_folders.run_commands import LOOKING, asked, here, say  # noqa: F401


@pytest.mark.parametrize("command", LOOKING)
def test_every_command_takes_the_run_written_to_last_and_says_so_in_its_first_line(command: list[str]) -> None:
    asked("old", 1000, "grm_rl.learning_rate=3e-6")
    asked("new", 2000, "grm_rl.learning_rate=2e-6")
    first = say(*command).output.splitlines()[0]
    assert first == "run runs/new (the one written to last): proxy_grm:quick on local, grm_rl.learning_rate=2e-6"
    first = say(*command, "--run", "runs/old").output.splitlines()[0]
    assert first == "run runs/old: proxy_grm:quick on local, grm_rl.learning_rate=3e-6"


def test_naming_a_profile_or_a_recipe_starts_a_new_request() -> None:
    asked("new", 2000, "grm_rl.learning_rate=2e-6")
    assert say("plan", "--profile", "local").output.splitlines()[0] == "run runs/local (new): proxy_grm:demo on local"
    assert (
        say("plan", "--recipe", "proxy_grm:quick").output.splitlines()[0]
        == "run runs/local (new): proxy_grm:quick on local"
    )
    line = say("plan", "--recipe", "proxy_grm:demo", "--run", "runs/new").output.splitlines()[0]
    assert line == "run runs/new: proxy_grm:demo on local"


def test_options_are_added_to_the_earlier_ones_of_the_run() -> None:
    asked("new", 2000, "grm_rl.learning_rate=2e-6", "grm_rl.seed=1")
    said = say("plan", "--set", "grm_rl.learning_rate=4e-6", "--nodes", "3", "--qos", "long").output.splitlines()[0]
    settings = "grm_rl.learning_rate=4e-6, grm_rl.seed=1, qos long"
    assert said == f"run runs/new (the one written to last): proxy_grm:quick on local, 3 nodes, {settings}"


def test_json_stays_json_and_the_run_is_named_beside_it() -> None:
    asked("new", 2000, done=True)
    for command in ("status", "why", "cost"):
        answer = say(command, "--json")
        json.loads(answer.stdout)
        assert answer.stderr.startswith("run runs/new (the one written to last)")


def test_after_the_cluster_went_down_the_records_prove_what_is_done_and_the_rest_is_unknown() -> None:
    ledger, stages = asked("demo", 2000, done=True)
    assert {row["word"] for row in json.loads(say("status", "--json").stdout)} == {"done"}
    assert "nothing is wrong" in say("why").output
    answer = say("status")
    assert answer.exit_code == 0
    down = "the private cluster is down (`proxygrm cluster up` starts it): the run's records are shown alone"
    assert answer.stderr.splitlines() == [down]
    last = stages[-1]
    ledger.done_path(last).unlink()
    rows = {row["stage"]: row for row in json.loads(say("status", "--json").stdout)}
    assert (rows[last.name]["word"], rows[stages[0].name]["word"]) == ("unknown", "done")
    why = json.loads(say("why", "--json").stdout)
    assert (why["stage"], why["word"]) == (last.name, "unknown")


def test_hours_come_from_the_done_records_where_no_accounting_answers() -> None:
    _, stages = asked("demo", 2000, done=True)
    found = json.loads(say("cost", "--json").stdout)
    assert found["source"] == "records"
    rl = next(row for row in found["stages"] if row["stage"] == "grm_rl")
    on = next(stage.on for stage in stages if stage.name == "grm_rl")
    assert rl["used_gpu_h"] == on.nodes * on.gpus_per_node
    assert rl["asked_cpu_h"] == round(on.nodes * on.cpus_per_task * on.timeout_min / 60, 4)
    assert "from the DONE records only" in say("cost").output


def test_a_submit_with_nothing_to_do_says_so_and_starts_and_writes_nothing(tmp_path: Path) -> None:
    ledger, _ = asked("demo", 2000, done=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    answer = say("submit")
    assert answer.exit_code == 0
    assert answer.output.splitlines()[0] == "run runs/demo (the one written to last): proxy_grm:quick on local"
    assert "nothing to do: every stage is done" in answer.output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert not (ledger.folder / ".lock").exists() or (ledger.folder / ".lock") in before


def test_a_plan_names_the_setting_that_changed() -> None:
    asked("demo", 2000, done=True)
    said = say("plan", "--set", "grm_rl.learning_rate=9e-9").output
    assert "learning_rate" in said
    assert "-> 9e-09" in said
    assert "its configuration, prompts" not in said


def test_advice_is_typed_in_full_and_can_be_typed_again() -> None:
    request = Request(
        "h100", "proxy_grm:paper", 4, ("grm_rl.learning_rate=1e-6", "policy=/m/my model"), (("qos", "long"),)
    )
    said = advice.in_full("do: `proxygrm why grm_rl`, then proxygrm submit: it resumes", Path("runs/it's"), request)
    run = """--run 'runs/it'"'"'s'"""
    more = "--profile h100 --recipe proxy_grm:paper --nodes 4 --set grm_rl.learning_rate=1e-6"
    more += " --set 'policy=/m/my model' --qos long"
    assert said == f"do: `proxygrm why {run} grm_rl`, then proxygrm submit {run} {more}: it resumes"
    assert advice.in_full(said, Path("runs/other"), request) == said, "what has its run keeps it"
    assert shlex.split(advice.run_option(Path("runs/it's"))) == ["--run", "runs/it's"]
    assert advice.run_option(Path("/elsewhere/run")) == "--run /elsewhere/run"
    assert advice.in_full("proxygrm data submit x", Path("r"), request) == "proxygrm data submit x"


def test_an_error_about_a_run_advises_commands_about_that_run() -> None:
    asked("new", 2000)
    last = say("logs", "grm_rl").output.splitlines()[-1]
    assert last == "proxygrm: grm_rl has no log yet; `proxygrm status --run runs/new` shows its state [logs.none]"


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"config": {"a": {"b": 1}}}, {"config": {"a": {"b": 2}}}, ["a.b 1 -> 2"]),
        ({"config": {"a": 1}}, {"config": {"a": 1, "c": None}}, ["c (not set) -> None"]),
        ({"config": None, "array": 2}, {"config": None, "array": 4}, ["array elements 2 -> 4"]),
        ({"prompts": {"grm": "x"}}, {"prompts": {"grm": "y"}}, ["prompt grm"]),
        ({"needs": {"pairs": "x", "t": "1"}}, {"needs": {"pairs": "y", "t": "1"}}, ["input pairs"]),
        ({"config": {"a": [1]}}, {"config": {"a": [1]}}, []),
    ],
)
def test_what_changed_is_named_with_both_values(before: dict, now: dict, said: list[str]) -> None:
    assert changes.between(before, now) == said


def test_a_folder_of_somebody_else_is_refused_and_root_makes_nothing_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    owner.refuse_foreign(mine / "new" / "run", "x")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(UserError, match=r"belongs to .*: become .*, or name another"):
        owner.refuse_foreign(mine, "name another")
    owner.refuse_foreign(mine / "new", "x")  # of a folder that others may write to, the file system decides
    if me:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(UserError, match="you are root"):
            owner.refuse_foreign(mine / "new", "x")


def test_a_profile_in_a_folder_with_a_colon_is_found_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "site.toml").write_text("preset = 'quick'\n")
    monkeypatch.chdir(tmp_path)
    resolved, _ = console.of_request(
        dict.fromkeys(("partition", "account", "qos", "reservation", "nodes", "run"))
        | {"profile": "a:b/site.toml", "recipe": "", "assignments": ()}
    )
    assert resolved.request.profile == str(tmp_path / "a:b" / "site.toml")


def test_other_runs_to_reuse_are_remembered_and_must_be_runs() -> None:
    asked("old", 1000)
    ledger, _ = asked("new", 2000)
    command = advice.options(Request(reuse=(str(Path("runs/old").absolute()),)))
    assert command[-2:] == ["--reuse", "runs/old"]
    line = say("plan", "--reuse", "runs/old").output.splitlines()[0]
    assert line == "run runs/new (the one written to last): proxy_grm:quick on local, reuse runs/old"
    record = json.loads((ledger.folder / "run.json").read_text())
    record["request"]["reuse"] = [str(Path("runs/old").absolute())]
    (ledger.folder / "run.json").write_text(json.dumps(record))
    assert say("plan", "--run", "runs/new").output.splitlines()[0].endswith("reuse runs/old")
    assert code_of(say("plan", "--reuse", "runs/new").output) == "reuse.itself"
    Path("empty").mkdir()
    assert code_of(say("plan", "--reuse", "empty").output) == "reuse.not-a-run"
    assert code_of(say("demo", "--reuse", "empty").output) == "reuse.not-a-run"
