"""What people give becomes lines of scripts: control characters are refused where it is given, and named."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from jobs.recipes import read_spec
from jobs.recipes.proxy_grm import RECIPE, chain, paper
from proxygrm.core.errors import UserError
from proxygrm.core.one_line import control_character
from proxygrm.core.settings import with_assignments
from slurm import profile as profiles
from slurm.environment import python_command, setup_lines
from slurm.health.doctor.probe import command
from slurm.profile import Container, Environment, Profile, Scheduler
from slurm.sbatch import sbatch_parameters
from support.refusals import code_of, refused

BAD = ["\n", "\r", "\t", "\v", "\f", "\x00", "\x1b", "\x07", "\x7f", "\x85", "\x9b"]
BAD += ["\u2028", "\u2029", "\u202e", "\u200f", "\u061c"]
WORDS = 'it\'s; a "b" $HOME $(id) `id` # \\ *'


@pytest.mark.parametrize("letter", BAD, ids=ascii)
@pytest.mark.parametrize("place", ["{0}x", "x{0}y", "x{0}"], ids=["first", "within", "last"])
def test_every_control_character_is_detected_at_every_place(letter: str, place: str) -> None:
    assert control_character(place.format(letter))


@pytest.mark.parametrize("text", ["", "a b", "größe", "模型", "a\u00a0b", "👩\u200d🔬", "x" * 5000])
def test_ordinary_text_has_no_control_character(text: str) -> None:
    assert control_character(text) == ""


PLACES = {
    "description": 'description = {0}',
    "scheduler: partition": "[scheduler]\npartition = {0}",
    "scheduler: cpu_partition": "[scheduler]\ncpu_partition = {0}",
    "scheduler: account": "[scheduler]\naccount = {0}",
    "scheduler: qos": "[scheduler]\nqos = {0}",
    "scheduler: constraint": "[scheduler]\nconstraint = {0}",
    "scheduler: reservation": "[scheduler]\nreservation = {0}",
    "scheduler: exclude": "[scheduler]\nexclude = {0}",
    "scheduler: sbatch": "[scheduler.sbatch]\ncomment = {0}",
    "node: gpu_type": "[node]\ngpu_type = {0}",
    "node: interface": "[node]\ninterface = {0}",
    "environment: modules": "[environment]\nmodules = [{0}]",
    "environment: venv": "[environment]\nvenv = {0}",
    "environment: setup": '[environment]\nsetup = ["true", {0}]',
    "environment: variables": "[environment.variables]\nA = {0}",
    "environment: python": "[environment]\npython = {0}",
    "container: image": '[container]\nruntime = "pyxis"\nimage = {0}',
    "container: mounts": '[container]\nruntime = "pyxis"\nimage = "/i"\nmounts = [{0}]',
    "container: options": '[container]\nruntime = "pyxis"\nimage = "/i"\noptions = [{0}]',
    "health: command": "[health]\ncommand = {0}",
}  # fmt: skip


@pytest.mark.parametrize("letter", ["\n", "\r", "\x1b", "\x85", "\u2028"], ids=ascii)
@pytest.mark.parametrize("key", PLACES)
def test_a_profile_value_with_a_control_character_is_refused_by_its_key(tmp_path: Path, key: str, letter: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(PLACES[key].format(json.dumps(f"/a{letter}touch /tmp/x")), encoding="utf-8")
    with refused("option.control-character", where=f"{file}: {key}") as caught:
        profiles.load(str(file))
    assert control_character(str(caught.value)) == ""


def test_names_in_a_profile_are_checked_as_values_are(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    for text in (r'"a\nb" = 1', '[scheduler]\n"parti\\ntion" = "x"', '[environment.variables]\n"A\\nB" = "x"'):
        file.write_text(text)
        with refused("option.control-character", character="a line break") as caught:
            profiles.load(str(file))
        assert control_character(str(caught.value)) == ""


def test_a_value_that_looks_secret_is_not_shown_by_its_refusal(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('[environment.variables]\nSWANLAB_API_KEY = "planted\\nsecret"\n')
    with refused("option.control-character") as caught:
        profiles.load(str(file))
    assert "planted" not in f"{caught.value} {caught.value.values}"


def test_shell_lines_of_a_profile_may_be_indented_by_tabs_and_other_values_not(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('[environment]\nsetup = ["\\tulimit -n 65536"]\n[health]\ncommand = "true\\t&& true"\n')
    assert profiles.load(str(file)).environment.setup == ["\tulimit -n 65536"]
    file.write_text('[scheduler]\naccount = "a\\tb"\n')
    with refused("option.control-character", character="a tab"):
        profiles.load(str(file))


@pytest.mark.parametrize(("key", "value"), [("python", "~/env/bin/python"), ("venv", "$HOME/env"), ("python", "`x`")])
def test_a_path_that_only_a_shell_would_read_is_refused(tmp_path: Path, key: str, value: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(f'[environment]\n{key} = "{value}"\n')
    with pytest.raises(UserError, match=rf"environment\.{key}: .* write the whole path"):
        profiles.load(str(file))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["plan", "--account", "lab\nrm x"], "--account"),
        (["plan", "--account=lab\nrm x"], "--account"),
        (["plan", "--partition", "a\x1b]0;x"], "--partition"),
        (["plan", "--profile", "a\rb"], "--profile"),
        (["plan", "--run", "runs/a\tb"], "--run"),
        (["plan", "--set", "policy=/models/a\nb"], "--set policy"),
        (["plan", "--set=policy=/models/a\nb"], "--set policy"),
        (["plan", "grm_rl\n"], "'grm_rl\\n'"),
        (["doctor", "--qos", "x\u2028y"], "--qos"),
        (["ablate", "aggregation", "--only", "a\nb"], "--only"),
        (["cluster", "up", "--dir", "/tmp/a\nb"], "--dir"),
        (["run-stage", "grm_rl", "--reservation", "x\x85y"], "--reservation"),
    ],
)
def test_an_option_with_a_control_character_is_refused_by_its_name(arguments: list[str], named: str) -> None:
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 2
    (line,) = answer.output.splitlines()
    assert line.startswith(f"proxygrm: {named} contains ")
    assert code_of(answer.output) == "option.control-character"
    assert control_character(line) == ""


@pytest.mark.parametrize("text", ['partition = "a\\\\b"', 'sbatch = { mail-user = "a\\\\b" }', 'constraint = "\\\\"'])
def test_a_backslash_that_sbatch_would_take_away_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(f"[scheduler]\n{text}\n")
    with pytest.raises(UserError, match="contains a backslash"):
        profiles.load(str(file))


@pytest.mark.parametrize("option", ["--partition", "--account", "--qos", "--reservation"])
@pytest.mark.parametrize("command", ["plan", "doctor"])
def test_what_is_typed_is_checked_as_the_profile_is(option: str, command: str, tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, [command, "--profile", "h100", option, "a\\b", "--run", str(tmp_path)])
    assert answer.exit_code == 2
    assert f"{option[2:]} contains a backslash" in answer.output.splitlines()[-1]


def test_settings_from_anywhere_are_one_line(tmp_path: Path) -> None:
    with refused("option.control-character", where="--set policy", character="a line break"):
        with_assignments(paper(), ["policy=/models/a\nb"])
    spec = tmp_path / "mine.toml"
    spec.write_text('[grid]\npolicy = ["/models/a\\nb"]\n')
    with refused("option.control-character", where="--set policy", character="a line break"):
        with_assignments(paper(), read_spec(RECIPE, str(spec)).cells[0].settings)


def test_every_value_of_a_profile_remains_one_word_for_the_shell(tmp_path: Path) -> None:
    """bash reads the lines as a job does, and prints the words it has read."""
    words = WORDS.replace("$HOME $(id) `id`", "a%b")
    profile = Profile(
        "s",
        scheduler=Scheduler(WORDS, account=WORDS, constraint=WORDS, sbatch={"comment": WORDS}),
        environment=Environment(variables={"WORDS": WORDS}, python=f"/py {words}"),
        container=Container("apptainer", f"/images/{words}", options=[WORDS]),
    )
    shell = f"printf '%s\\n' {python_command(profile, tmp_path)}"
    words_read = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words_read[-3:] == [WORDS, f"/images/{words}", f"/py {words}"]
    script = "\n".join([*setup_lines(profile, tmp_path), 'printf %s "$WORDS"'])
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == WORDS
    asked = command(profile, tmp_path, 60)
    assert f"--account={WORDS}" in asked, "no shell reads the probe's own options"


def test_exclusive_nodes_are_requested_if_the_profile_says_so(tmp_path: Path) -> None:
    stage = chain(paper())[0]
    for said, asked, word in (("user", "user", "--exclusive=user"), ("node", True, "--exclusive")):
        profile = Profile("s", scheduler=replace(Scheduler("h100"), exclusive=said))
        assert sbatch_parameters(stage, profile, "")["exclusive"] == asked
        assert word in command(profile, tmp_path, 60)
    assert "exclusive" not in sbatch_parameters(stage, Profile("s"), "")
    file = tmp_path / "site.toml"
    file.write_text('[scheduler]\nexclusive = "mine"\n')
    with pytest.raises(UserError, match="there are user, mcs and node"):
        profiles.load(str(file))
    file.write_text('[scheduler.sbatch]\nexclusive = "user"\n')
    with pytest.raises(UserError, match=r"set it with scheduler\.exclusive"):
        profiles.load(str(file))
