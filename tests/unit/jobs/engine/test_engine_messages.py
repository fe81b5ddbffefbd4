"""The exact sentences of the engine's errors, each once; elsewhere tests compare codes and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.engine import check
from jobs.engine.plan import Facts, Queued, plan
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.ownership import Ownership
from jobs.engine.run_folder.records import read_json
from jobs.engine.run_folder.secrecy import refuse
from jobs.engine.stage import Artifact, Stage, StageRun, closure, exists
from jobs.engine.watch import logs
from jobs.engine.watch.logs import Segment
from proxygrm.core.errors import UserError
from slurm.sbatch import Resources


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


RL = Stage("rl", nothing, (Artifact("policy"),), Resources())
SEGMENT = Segment(Path("x"), 3, 0, 0, 1, ("attempt 3 of job 7, task 0 on node n3",))


def empty_folder() -> None:
    Path("empty").mkdir()
    exists(Path("empty"))


def empty_file() -> None:
    Path("empty").touch()
    exists(Path("empty"))


def torn(name: str) -> Callable[[], object]:
    def read() -> object:
        Path(name).write_text("{")
        return read_json(Path(name))

    return read


def superseded() -> None:
    Ownership(Path("train"), 0, 7.0).claim()
    Ownership(Path("train"), 0, 6.0).claim()


MESSAGES: dict[str, tuple[Callable[[], object], str]] = {
    "file.missing": (lambda: exists(Path("gone")), "gone does not exist"),
    "file.empty": (empty_folder, "empty is an empty folder"),
    "file.empty#file": (empty_file, "empty is an empty file"),
    "stage.unknown-output": (lambda: RL / "model", "stage rl makes no 'model'; it makes policy"),
    "stage.unknown": (lambda: closure([RL], ["rll"]), "there is no stage 'rll' in this chain; did you mean 'rl'?"),
    "stage.unknown#far": (lambda: closure([RL], ["xyz"]), "there is no stage 'xyz' in this chain; it has rl"),
    "run.unreadable-record": (
        torn("DONE.json"),
        "DONE.json cannot be read: it is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)); delete it to have its stage run again",
    ),
    "run.unreadable-record#run": (
        torn("run.json"),
        "run.json cannot be read: it is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)); a submit with --profile, --run and the run's other options writes it again",
    ),
    "run.cannot-write": (
        lambda: Ledger(Path("/dev/null/run")).create(),
        "cannot write to the run folder /dev/null/run: File exists; choose another with --run",
    ),
    "submit.other-configuration-queued": (
        lambda: plan([RL], {"rl": Facts("not done yet", queued=Queued("12", "PENDING", "x", "lr 1 -> 2"))}),
        "rl is pending as job 12 with another configuration (lr 1 -> 2); end it first (`proxygrm cancel`) or use "
        "another run (--run NAME)",
    ),
    "submit.bad-job-id": (
        lambda: check.other_jobs(["12_"]),
        "--after 12_: that is not a job id (12345, or 12345_7 for an element of an array)",
    ),
    "submit.missing-input": (
        lambda: check.refuse([check.Problem("rl needs x", "submit.missing-input")] * 2, "; advice"),
        "rl needs x (1 more above); advice",
    ),
    "logs.no-attempt": (
        lambda: logs.select([SEGMENT], 9, None),
        "there is no attempt 9; the last one is 3",
    ),
    "logs.no-node": (
        lambda: logs.select([SEGMENT], None, "n7"),
        "no node 'n7' in that attempt; there are 0 (n3)",
    ),
    "settings.secret": (
        lambda: refuse({"teacher": "https://me:hunter22@host"}, "the experiment"),
        "the experiment.teacher holds a password in a URL, which would be written into the run folder; keep it in a "
        "0600 file (api_key_file, SWANLAB_API_KEY_FILE) or in your shell's environment",
    ),
}


@pytest.mark.parametrize("code", MESSAGES)
def test_each_error_has_its_sentence_and_its_code(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    action, sentence = MESSAGES[code]
    with pytest.raises(UserError) as caught:
        action()
    assert (caught.value.code, str(caught.value)) == (code.partition("#")[0], sentence)


def test_a_superseded_attempt_names_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr("jobs.engine.run_folder.ownership.node_name", lambda: "n1")
    with pytest.raises(UserError) as caught:
        superseded()
    assert str(caught.value) == (
        "train belongs to a newer attempt now (job 7, attempt 1, on n1): this one (job 7, attempt 1, on n1) ends and "
        "writes nothing more"
    )
