"""Which logs `why` reads, and where one attempt ends and the next begins."""

from __future__ import annotations

from pathlib import Path

from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.watch import logs
from proxygrm.core.runtime.log_tail import read_end
from slurm.sbatch import Resources
from support.refusals import refused


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def written(tmp_path: Path, files: dict[str, str]) -> tuple[Stage, Ledger]:
    stage, ledger = Stage("rl", nothing, (Artifact("x"),), Resources(nodes=2)), Ledger(tmp_path / "run")
    folder = ledger.folder / "rl" / "jobs"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, newline="")
    ledger.record_submissions({"rl": ("7", "f")})
    ledger.record_submissions({"rl": ("12", "f")})
    return stage, ledger


def start(node: str, number: int, task: int = 0) -> str:
    return f"""submitit INFO (2026-03-02 11:00:00,001) - Starting with JobEnvironment(job_id=12, hostname=vm)
rl: attempt {number} of job 12, task {task} on node {node}
"""


def test_a_log_of_a_job_sent_by_hand_is_found_and_split_where_its_first_task_begins(tmp_path: Path) -> None:
    log = tmp_path / "rl %j of me.out"
    begin = "rl: attempt {} of job 12, task {} on node n{}\n"
    log.write_text(begin.format(1, 1, 2) + begin.format(1, 0, 1) + "first\n" + begin.format(2, 0, 3) + "second\n")
    stage, ledger = written(tmp_path, {})
    logs.adopt(ledger.folder, stage, "12", str(log))
    logs.adopt(ledger.folder, stage, "12", str(log))  # it was requeued
    one, two = logs.segments(stage, ledger)
    assert [(each.attempt, each.rank, each.node, each.lines[-1]) for each in (one, two)] == [
        (1, 0, "n1", "first"),
        (2, 0, "n3", "second"),
    ]


def test_attempts_are_told_apart_over_requeues_and_submissions(tmp_path: Path) -> None:
    again = f"srun: warning\n{start('n1', 1)}first ü\r\n{start('n3', 2)}second\nsubmitit INFO quoted: Starting with\n"
    files = {
        "7_0_log.out": "an old job that never said it started\n",
        "12_0_log.out": again,
        "12_1_log.out": start("n2", 1, task=1) + "other",
    }
    stage, ledger = written(tmp_path, {**files, "120_0_log.out": "another job's", "12_0_result.pkl": "x"})
    found = logs.segments(stage, ledger)
    assert [(one.path.name, one.attempt, one.rank, one.node) for one in found] == [
        ("7_0_log.out", 1, 0, ""),
        ("12_0_log.out", 2, 0, "n1"),
        ("12_0_log.out", 3, 0, "n3"),
        ("12_1_log.out", 1, 1, "n2"),
    ]
    assert found[1].lines[0] == "srun: warning"
    assert found[2].first_line == 5
    assert [one.rank for one in logs.select(found, None, None)] == [0, 1]
    assert logs.select(found, 2, None)[0].lines[-1] == "first ü"
    assert logs.select(found, None, "n3")[0].attempt == 3
    with refused("logs.no-attempt", attempt=9, last=3):
        logs.select(found, 9, None)
    with refused("logs.no-node", node="n7", known=["0 (n3)", "1 (n2)"]):
        logs.select(found, None, "n7")


def test_the_end_of_a_huge_log_is_read_with_its_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "huge.log"
    path.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(1, 50_001)))
    first, lines = read_end(path, max_bytes=1000)
    assert lines[0].startswith(f"line {first} ")
    assert lines[-1].startswith("line 50000 ")
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"of the next attempt\n")
    assert read_end(path, start=size) == (50_001, ["of the next attempt"])
    assert read_end(path, start=10**9)[1][-1] == "of the next attempt", "written anew: all of it is its own"
    (tmp_path / "empty.log").touch()
    assert read_end(tmp_path / "empty.log") == (1, [])


def test_only_logs_that_were_written_since_then_are_looked_at(tmp_path: Path) -> None:
    for name in ("trainer.log", "proxy/proxy-0.log", "ray/9-0/ray-n1.log", "checkpoints/x.log", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [str(path.relative_to(tmp_path)) for path in logs.other_logs(tmp_path, since=0)]
    assert sorted(found) == ["proxy/proxy-0.log", "ray/9-0/ray-n1.log", "trainer.log"]
    assert logs.other_logs(tmp_path, since=4e9) == []
    assert logs.sizes(tmp_path)["proxy/proxy-0.log"] == 1
