"""The doctor's lines about other users: real folders and modes, and the output of `scontrol` on different sites."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from slurm.health.doctor import safety
from slurm.health.doctor.finding import Finding
from slurm.health.doctor.probe import Answer, judge
from slurm.profile import Profile, Scheduler
from support.machines import CUDA, NODE, RUNS

ME = os.geteuid()
NOBODY = 65534
as_root = pytest.mark.skipif(ME != 0, reason="only root can make files of another user")
CONFIG = """\
Configuration data as of 2026-03-02T10:11:12
AccountingStoreFlags    = job_comment,job_env
PrivateData             = none
ProctrackType           = {0}
SelectType              = {1}
SelectTypeParameters    = CR_CORE_MEMORY
SLURM_VERSION           = 23.11.4

Cgroup Support Configuration:
ConstrainCores          = yes
"""
PARTITIONS = """\
PartitionName=h100 AllowGroups=ALL Default=NO QoS=N/A ExclusiveUser={0} Hidden=NO OverSubscribe={1} State=UP
PartitionName=cpu AllowGroups=ALL Default=YES QoS=N/A ExclusiveUser=NO Hidden=NO OverSubscribe=NO State=UP
PartitionName=other AllowGroups=ALL Default=NO ExclusiveUser=NO OverSubscribe=FORCE:4 State=UP
"""


def by_check(findings: object) -> dict[str, Finding]:
    lines = list(findings)  # type: ignore[call-overload]
    assert all(line.remedy for line in lines if line.level != "ok"), "every problem comes with a remedy"
    return {line.check: line for line in lines}


def site(user: str = "NO", over: str = "NO", track: str = "proctrack/cgroup", select: str = "select/cons_tres", **own):  # type: ignore[no-untyped-def]
    profile = Profile("s", scheduler=Scheduler(**{"partition": "h100", **own}))
    config = safety.parse_config(CONFIG.format(track, select))
    return by_check(safety.site_lines(config, PARTITIONS.format(user, over), profile))


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        ({}, "warn", "may run on the same nodes in h100"),
        ({"user": "YES"}, "ok", "beside yours in h100"),
        ({"over": "EXCLUSIVE"}, "ok", "beside yours in h100"),
        ({"over": "YES:4"}, "warn", "h100"),
        ({"select": "select/linear"}, "ok", "whole nodes"),
        ({"exclusive": "user"}, "ok", "scheduler.exclusive = user"),
        ({"exclusive": "node"}, "ok", "scheduler.exclusive = node"),
        ({"user": "YES", "cpu_partition": "cpu"}, "warn", "in cpu"),
        ({"partition": ""}, "warn", "in cpu"),
    ],
)
def test_whether_others_share_a_node_is_read_from_partition_and_profile(facts: dict, level: str, words: str) -> None:
    line = site(**facts)["shared nodes"]
    assert line.level == level
    assert words in line.detail


def test_processes_that_can_outlive_their_job_are_named_with_the_remedy() -> None:
    assert site()["ended jobs"].level == "ok"
    for kind in ("proctrack/linuxproc", "proctrack/pgid", ""):
        line = site(track=kind)["ended jobs"]
        assert (line.level, "end_stale" in line.remedy) == ("warn", True)


def test_a_private_cluster_is_not_shared() -> None:
    assert list(safety.site_lines({}, PARTITIONS, Profile("local", private_cluster=True))) == []


def test_a_configuration_is_read_with_its_empty_values_and_without_its_headings() -> None:
    config = safety.parse_config(CONFIG.format("proctrack/pgid", "") + "JobCompHost             = \n")
    assert config["ProctrackType"] == "proctrack/pgid"
    assert config["SelectType"] == config["JobCompHost"] == ""
    assert "Cgroup" not in config


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "runs" / "mine" / "grm_rl").mkdir(parents=True)
    return folder


def lines(home: Path, umask: int = 0o022, runs: Path | None = None) -> dict[str, Finding]:
    return by_check(safety.folder_lines(runs or home / "runs", home, umask, ME))


def test_a_safe_account_has_no_finding(home: Path) -> None:
    assert {check: line.level for check, line in lines(home).items()} == {safety.PLACE: "ok"}


@pytest.mark.parametrize(
    ("where", "mode", "level"),
    [
        ("home/runs", 0o777, "fail"),
        ("home/runs", 0o1777, "fail"),
        ("home/runs", 0o775, "warn"),
        ("home", 0o777, "fail"),
        ("home", 0o775, "warn"),
        ("home", 0o1777, "ok"),
        ("home", 0o750, "ok"),
    ],
)
def test_who_may_replace_a_run_folder_is_named(home: Path, where: str, mode: int, level: str) -> None:
    (home.parent / where).chmod(mode)
    line = lines(home)[safety.PLACE]
    assert line.level == level
    assert level == "ok" or (str(home.parent / where) in line.detail and "chmod go-w" in line.remedy)


def test_a_run_folder_that_is_still_to_be_made_is_judged_by_what_it_is_made_in(home: Path) -> None:
    new = home / "later" / "runs"
    assert lines(home, runs=new)[safety.PLACE].level == "ok"
    home.chmod(0o777)
    assert lines(home, runs=new)[safety.PLACE].level == "fail"
    home.chmod(0o1777)
    assert lines(home, runs=new)[safety.PLACE].level == "ok"


@as_root
def test_a_folder_of_another_user_is_named_with_its_owner(home: Path) -> None:
    os.chown(home, NOBODY, NOBODY)
    above = lines(home)[safety.PLACE]
    assert (above.level, "belongs to nobody" in above.detail) == ("warn", True)
    os.chown(home / "runs", NOBODY, NOBODY)
    assert lines(home)[safety.PLACE].level == "fail"


def test_a_home_that_others_may_write_to_is_named(home: Path) -> None:
    home.chmod(0o775)
    assert lines(home)["home folder"].level == "warn"


@pytest.mark.parametrize(("umask", "private", "named"), [
    (0o077, False, False), (0o027, False, False), (0o022, False, False),
    (0o002, False, True), (0o002, True, False), (0o000, True, True), (0o020, False, True),
])  # fmt: skip
def test_a_umask_that_lets_others_write_is_named_unless_the_group_is_one_s_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, umask: int, private: bool, named: bool
) -> None:
    monkeypatch.setattr(safety, "private_group", lambda user: private)
    assert ("umask" in lines(home, umask)) is named


def test_reading_the_umask_does_not_change_it() -> None:
    before = os.umask(0o037)
    try:
        assert safety.umask_now() == safety.umask_now() == 0o037
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "name", [".ray/auth_token", ".cache/huggingface/token", "runs/front.key", "runs/mine/front.key",
             "runs/mine/grm_rl/front.key", "runs/mine/grm_rl/ray/token", "runs/mine/distill/api_key"],
)  # fmt: skip
def test_a_key_that_others_can_read_is_named_and_never_shown(home: Path, name: str) -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("planted-secret")
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        line = lines(home)["keys on disk"]
        assert line.level == "warn"
        assert line.remedy == f"chmod 600 {path}"
        assert "planted" not in repr(line)
    path.chmod(0o600)
    assert lines(home)["keys on disk"].level == "ok"


@pytest.mark.parametrize(("mode", "safe"), [(0o1777, True), (0o700, True), (0o777, False), (0o770, False)])
def test_a_temporary_folder_keeps_what_one_makes_there(mode: int, safe: bool) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(mode)
        problems = safety.temp_problems([Path(name)])
    assert problems == ([] if safe else [f"others can rename and remove your files in {name}: no sticky bit"])


def test_a_temporary_folder_without_room_for_a_socket_or_that_is_not_there_is_named(tmp_path: Path) -> None:
    long = tmp_path / ("x" * safety.LONGEST_TEMP)
    long.mkdir()
    missing, deep = tmp_path / "none", safety.temp_problems([long, long])
    assert len(deep) == 1
    assert "the paths of sockets in it become too long" in deep[0]
    assert "No such file" in safety.temp_problems([missing])[0]
    assert safety.no_programs(missing) is False


def test_a_mount_from_which_nothing_can_be_run_is_known() -> None:
    mounts = {
        line.split()[1]: line.split()[3].split(",") for line in Path("/proc/self/mounts").read_text().splitlines()
    }
    looked_at = [point for point in ("/", "/proc", "/dev/shm", "/sys", "/dev") if point in mounts]
    assert {point: safety.no_programs(Path(point)) for point in looked_at} == {
        point: "noexec" in mounts[point] for point in looked_at
    }


@as_root
def test_a_temporary_folder_of_another_user_is_named(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    assert "belongs to nobody" in safety.temp_problems([tmp_path])[0]


@pytest.mark.parametrize(("options", "visible"), [
    ("rw", True), ("rw,hidepid=0", True), ("rw,hidepid=off", True), ("rw,hidepid=2", False),
    ("rw,gid=4,hidepid=invisible", False), ("rw,hidepid=noaccess", False), ("rw,hidepid=1", False),
])  # fmt: skip
def test_whether_others_see_processes_is_read_from_the_mount(options: str, visible: bool) -> None:
    mounts = f"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 20 0:21 / /proc rw,nosuid shared:5 - proc proc {options}\n"
    assert safety.others_see_processes(mounts) is visible
    assert safety.others_see_processes("20 1 8:1 / / rw - ext4 /dev/sda1 rw\n") is None


@pytest.mark.parametrize(
    ("change", "check", "level", "words"),
    [
        ({"temp_problems": ["others can rename ... /tmp: no sticky bit"]}, "temporary files", "fail", "on n1: others"),
        ({"temp_noexec": True}, "temporary files", "warn", "noexec"),
        ({"curve": False}, "pyzmq", "fail", "without CURVE"),
        ({"processes_visible": True}, "other users", "ok", "see command lines; no key is in one"),
        ({"processes_visible": False}, "other users", "ok", "hidepid"),
    ],
)
def test_each_fact_of_a_node_is_its_own_line(change: dict, check: str, level: str, words: str) -> None:
    findings = by_check(judge(Answer(replace(NODE, **change), answered=True, clock=(999.0, 1002.0)), NODE, CUDA, RUNS))
    assert findings[check].level == level
    assert words in findings[check].detail
    assert {line.level for name, line in findings.items() if name != check} == {"ok"}


@pytest.mark.needs("zmq")
def test_this_machine_answers_every_question() -> None:
    assert safety.curve() is True
    assert safety.others_see_processes() in (True, False)
    assert safety.temp_problems([Path("/tmp")]) == []
