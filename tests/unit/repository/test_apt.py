"""requirements/apt.sh with an apt-get and a sudo that only write down what they are asked; policy-rc.d is a file of
the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
NO_FLOCK = Path(__file__).parents[2] / "support" / "no_flock.py"
NOBODY = 65534
APT = """#!/bin/bash
# What apt finds while it installs. With a file `hold` it waits until that is gone.
[[ " $* " == *" install "* ]] || exit 0
cp POLICY FOLDER/seen 2>/dev/null || rm -f FOLDER/seen
stat -c %a POLICY > FOLDER/mode 2>/dev/null
echo "$*" >> FOLDER/installed
while [[ -e FOLDER/hold ]]; do sleep 0.05; done
[[ ! -e FOLDER/broken ]] || { echo "E: broken" >&2; exit 100; }
"""
SUDO = """#!/bin/bash
echo "$*" >> FOLDER/sudo.log
[[ $1 == -n ]] && shift
exec "$@"
"""


@dataclass(frozen=True)
class Machine:
    folder: Path
    policy: Path
    before: tuple[str | Path, ...] = ()
    """What the command is started by."""

    def start(self, user: int | None = None, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.before, "bash", self.folder / "requirements" / "apt.sh", "munge", "slurmd"],
            env={"PATH": f"{self.folder}/bin:/usr/bin:/bin", **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            **({"user": user, "group": user, "extra_groups": []} if user is not None else {}),  # type: ignore[call-overload]
        )  # fmt: skip

    def run(self, user: int | None = None, **environment: str) -> int:
        process = self.start(user, **environment)
        process.communicate(timeout=240)
        return process.returncode

    def held(self) -> subprocess.Popen[str]:
        """A run that stands in the middle of apt."""
        (self.folder / "hold").touch()
        process = self.start(PROXYGRM_SUDO="1")
        while not (self.folder / "installed").exists():
            assert process.poll() is None
            time.sleep(0.02)
        return process

    def left_over(self) -> list[str]:
        return [path.name for path in self.policy.parent.iterdir()]

    def seen(self) -> str:
        """The policy while apt installed."""
        path = self.folder / "seen"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are root's alone
        Path(place).chmod(0o755)
        yield made(Path(place))


def made(place: Path) -> Machine:
    folder, policy = place / "checkout", place / "sbin" / "policy-rc.d"
    for parent in (folder / "requirements", folder / "bin", policy.parent):
        parent.mkdir(parents=True)
    script = (ROOT / "requirements" / "apt.sh").read_text()
    assert script.count("policy=/usr/sbin/policy-rc.d\n") == 1
    (folder / "requirements" / "apt.sh").write_text(script.replace("=/usr/sbin/policy-rc.d\n", f"={policy}\n"))
    shutil.copy(ROOT / "requirements" / "one_at_a_time.sh", folder / "requirements")
    for name, text in (("apt-get", APT), ("sudo", SUDO)):
        (folder / "bin" / name).write_text(text.replace("POLICY", str(policy)).replace("FOLDER", str(folder)))
        (folder / "bin" / name).chmod(0o755)
    return Machine(folder, policy)


def test_no_daemon_starts_while_apt_installs_and_nothing_is_left(machine: Machine) -> None:
    assert machine.run(PROXYGRM_SUDO="1") == 0
    assert machine.seen().splitlines()[0] == "#!/bin/sh"
    assert machine.seen().splitlines()[-1] == "exit 101"
    assert (machine.folder / "mode").read_text().strip() == "755"
    assert (machine.folder / "installed").read_text().split()[-2:] == ["munge", "slurmd"]
    assert machine.left_over() == []


def test_a_site_s_own_policy_stays_as_it_is(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\n# ours\nexit 0\n")
    assert machine.run(PROXYGRM_SUDO="1") == 0
    assert machine.seen() == machine.policy.read_text() == "#!/bin/sh\n# ours\nexit 0\n"
    assert machine.left_over() == ["policy-rc.d"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_waits_for_apt_and_takes_its_policy_away(
    machine: Machine, number: signal.Signals
) -> None:
    process = machine.held()
    os.kill(process.pid, number)
    assert machine.policy.exists(), "apt is still at work"
    (machine.folder / "hold").unlink()
    process.communicate(timeout=240)
    assert process.returncode == 128 + number
    assert machine.left_over() == []


def test_a_policy_that_a_killed_run_left_is_known_as_ours_and_taken_away(machine: Machine) -> None:
    process = machine.held()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (machine.folder / "hold").unlink()
    left = machine.policy.read_text()
    assert machine.run(PROXYGRM_SUDO="1") == 0
    assert machine.seen() != left
    assert machine.seen().endswith("exit 101\n")
    assert machine.left_over() == []


def test_a_process_that_has_the_number_of_a_killed_run_is_not_taken_for_it(machine: Machine) -> None:
    mark = "# made by proxygrm (requirements/apt.sh) while process"
    machine.policy.write_text(f"#!/bin/sh\n{mark} {os.getpid()} 1 works\nexit 101\n")
    assert machine.run(PROXYGRM_SUDO="1") == 0
    assert machine.left_over() == []


def test_another_checkout_at_work_is_waited_for_and_its_policy_is_its_own(machine: Machine, tmp_path: Path) -> None:
    process = machine.held()
    other = Machine(tmp_path / "other", machine.policy)
    shutil.copytree(machine.folder / "requirements", other.folder / "requirements")
    shutil.copytree(machine.folder / "bin", other.folder / "bin")
    second = other.start(PROXYGRM_SUDO="1")
    assert str(process.pid) in machine.policy.read_text()
    (machine.folder / "hold").unlink()
    for one in (process, second):
        one.communicate(timeout=240)
        assert one.returncode == 0
    assert len((machine.folder / "installed").read_text().splitlines()) == 2
    assert str(second.pid) in machine.seen()
    assert machine.left_over() == []


def test_where_the_checkout_s_file_system_has_no_flock_it_installs_all_the_same(machine: Machine) -> None:
    without = replace(machine, before=(sys.executable, NO_FLOCK, "ENOSYS"))
    for _ in range(2):
        assert without.run(PROXYGRM_SUDO="1") == 0
        assert list((machine.folder / ".local").glob("*.held")) == []
    assert len((machine.folder / "installed").read_text().splitlines()) == 2
    assert machine.left_over() == []


def test_an_apt_that_fails_says_so_and_leaves_nothing(machine: Machine) -> None:
    (machine.folder / "broken").touch()
    assert machine.run(PROXYGRM_SUDO="1") == 1
    assert "E: broken" in (machine.folder / ".local" / "apt.log").read_text()
    assert machine.left_over() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_sudo_is_used_only_where_it_is_asked_for(machine: Machine) -> None:
    for path in (machine.folder, machine.policy.parent, *machine.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    for said in ({}, {"PROXYGRM_SUDO": ""}, {"PROXYGRM_SUDO": "0"}):
        assert machine.run(NOBODY, **said) == 3
    assert not (machine.folder / "sudo.log").exists()
    assert not (machine.folder / "installed").exists()
    assert machine.run(NOBODY, PROXYGRM_SUDO="1") == 0
    assert "apt-get" in (machine.folder / "sudo.log").read_text()
    assert machine.left_over() == []


def test_no_other_script_calls_sudo_or_installs_by_apt() -> None:
    """The choice, the policy and its traces stand in one place."""
    found = subprocess.run(["git", "ls-files", "*.sh"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in set(found.stdout.split()) - {"requirements/apt.sh"}:
        lines = [line.split("#")[0] for line in (ROOT / name).read_text().splitlines()]
        assert not [line for line in lines if "sudo -n true" in line or "policy-rc.d" in line], name
