"""The daemons of one private cluster: how each is started and how it shows that it answers."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from slurm import commands
from slurm.local import processes
from slurm.local.binaries import Programs
from slurm.local.config import ClusterSpec, Ports, nodes_of
from slurm.local.folder import conf_path

LOADED_WITHIN_S = 2.0
_OTHERS = ("MYSQL_", *commands.KEPT)


def user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise UserError(f"user id {os.getuid()} has no name on this machine, and SLURM needs one") from None


def client_environment(folder: Path, programs: Programs) -> dict[str, str]:
    """What SLURM's own commands, and jobs, need beyond the caller's environment. PATH is complete."""
    path = os.environ.get("PATH", os.defpath)
    extra = [folder for folder in programs.folders if folder not in path.split(os.pathsep)]
    result = {"SLURM_CONF": str(conf_path(folder))}
    if programs.prefix is not None:
        extra = programs.folders  # before whatever else is called sinfo here
    if extra:
        result["PATH"] = os.pathsep.join([*extra, path] if programs.prefix else [path, *extra])
    if library_path := programs.library_path():
        before = [path for path in (os.environ.get("LD_LIBRARY_PATH"),) if path]
        result["LD_LIBRARY_PATH"] = os.pathsep.join([library_path, *before])
    return result


@dataclass(frozen=True)
class Cluster:
    """Everything needed to start, ask and stop the daemons of one folder."""

    folder: Path
    base: str
    id: str
    spec: ClusterSpec
    ports: Ports
    programs: Programs

    @property
    def daemon_names(self) -> list[str]:
        nodes = [f"slurmd-{node.name}" for node in nodes_of(self.spec, self.ports)]
        return ["munged", "mariadbd", "slurmdbd", "slurmctld", *nodes]

    def environment(self) -> dict[str, str]:
        """The caller's environment without anything that points at another SLURM, plus this cluster's."""
        kept = {key: value for key, value in commands.clean(os.environ).items() if not key.startswith(_OTHERS)}
        return {**kept, **client_environment(self.folder, self.programs)}

    def ask(self, program: str, *arguments: str, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run one of the commands against this cluster; status 124 when it took longer than `seconds`."""
        argv = [self.programs[program], *arguments]
        try:
            return subprocess.run(
                argv, env=self.environment(), cwd="/", text=True, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, "", f"{program} gave no answer in {seconds:.0f} s")

    # -- starting ------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        environment = {
            **self.environment(),
            processes.MARK: f"{self.id}/{name}",
            "MYSQL_UNIX_PORT": f"{self.base}/run/mysql.sock",
        }
        argv = self._command(name)
        processes.spawn(argv, env=environment, output=self.folder / "log" / f"{name}.out", folder=self.folder)

    def _command(self, name: str) -> list[str]:
        base, programs = self.base, self.programs
        match name:
            case "munged":
                for stale in (self.folder / "run").glob("munge.sock*"):
                    stale.unlink()
                # --force turns munged's refusals of group-writable or closed parent folders into warnings:
                # the key (0400) and the socket lie in a folder of mode 0700.
                return [
                    programs["munged"], "--foreground", "--force", "--num-threads=2",
                    f"--key-file={base}/etc/munge.key", f"--socket={base}/run/munge.sock",
                    f"--pid-file={base}/run/munged.pid", f"--log-file={base}/log/munged.log",
                    f"--seed-file={base}/run/munged.seed",
                ]  # fmt: skip
            case "mariadbd":
                return [
                    programs["mariadbd"], *self._mariadb_options(), "--skip-networking", "--skip-log-bin",
                    f"--socket={base}/run/mysql.sock", f"--pid-file={base}/run/mariadbd.pid",
                    f"--log-error={base}/log/mariadbd.log", f"--tmpdir={base}/run",
                    # small: a few thousand rows at most
                    "--innodb-buffer-pool-size=24M", "--innodb-log-file-size=16M",
                    "--innodb-log-buffer-size=2M", "--aria-pagecache-buffer-size=1M", "--key-buffer-size=64K",
                    "--query-cache-size=0",
                    "--performance-schema=OFF", "--max-connections=20", "--table-open-cache=200",
                    "--innodb-use-native-aio=OFF", "--innodb-flush-log-at-trx-commit=2",
                    "--innodb-lock-wait-timeout=900",
                ]  # fmt: skip
            case "slurmdbd":
                return [programs["slurmdbd"], "-D"]
            case "slurmctld":
                return [programs["slurmctld"], "-D", "-i"]
        argv = [programs["slurmd"], "-D", "-N", name.removeprefix("slurmd-")]
        return argv + (["-d", programs["slurmstepd"]] if programs.prefix else [])

    def _mariadb_options(self, data: str = "db") -> list[str]:
        prefix = self.programs.prefix
        basedir = [f"--basedir={prefix}/usr"] if prefix else []
        return ["--no-defaults", *basedir, f"--datadir={self.base}/{data}", f"--user={user_name()}"]

    def make_database(self) -> None:
        """Initialise MariaDB's folder once. Its administrator is this user, by the kernel's word."""
        if (self.folder / "db").exists():
            return
        new = self.folder / "db.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        log = self.folder / "log" / "mariadb-install-db.out"
        with log.open("wb") as out:
            status = subprocess.run(
                [
                    self.programs["mariadb-install-db"], *self._mariadb_options("db.new"), "--skip-test-db",
                    "--skip-name-resolve", "--auth-root-authentication-method=socket",
                    f"--auth-root-socket-user={user_name()}", "--innodb-use-native-aio=OFF",
                ],
                env=self.environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                check=False,
            ).returncode  # fmt: skip
        if status != 0:
            words = last_line(log.read_text(errors="replace"))
            raise UserError(f"MariaDB could not be initialised: {words} ({log})")
        new.rename(self.folder / "db")

    # -- answering -----------------------------------------------------------------------------------------

    def answers(self, name: str) -> bool:
        """Whether the daemon does its work, not merely lives."""
        match name:
            case "munged":
                return self._asked("munge", "-n", "-S", f"{self.base}/run/munge.sock")
            case "mariadbd":
                return _greets(f"{self.base}/run/mysql.sock")
            case "slurmdbd":
                return _listens(self.ports.slurmdbd) and self._asked("sacctmgr", "-n", "show", "cluster")
            case "slurmctld":
                return _listens(self.ports.slurmctld) and self._asked("squeue", "-h", "-o", "%A")
        return True  # slurmd: its node's state tells

    def _asked(self, program: str, *arguments: str) -> bool:
        done = self.ask(program, *arguments)
        if "unable to process configuration" in done.stderr.lower():  # waiting will not help
            raise UserError(f"{conf_path(self.folder)}: {done.stderr.strip().splitlines()[0]}")
        return done.returncode == 0

    def wait_for(self, names: list[str], seconds: float) -> None:
        """Until all of them answer. Raises UserError with the log's last word when one ends or stays mute."""
        deadline = time.monotonic() + seconds
        waiting, absent_since = list(names), dict[str, float]()
        while waiting := [name for name in waiting if not self.answers(name)]:
            self._raise_if_ended(waiting, absent_since)
            if time.monotonic() > deadline:
                words = self.last_words(waiting[0])
                raise UserError(f"{waiting[0]} does not answer after {seconds:.0f} s: {words}")
            time.sleep(0.03)

    def _raise_if_ended(self, names: list[str], absent_since: dict[str, float]) -> None:
        """Ended means absent for a while: as long as a program is being loaded it has no environment yet, and on a
        loaded machine that takes its time."""
        living, now = processes.daemons(self.id), time.monotonic()
        for name in names:
            if name in living:
                absent_since.pop(name, None)
            elif now - absent_since.setdefault(name, now) > LOADED_WITHIN_S:
                raise UserError(f"{name} did not start: {self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """The line of the daemon's log that says most about its end, and where the rest is."""
        best, where = "it left no word", self.folder / "log"
        for path in (self.folder / "log" / f"{name}.log", self.folder / "log" / f"{name}.out"):
            if path.exists() and path.stat().st_size:
                line = last_line(path.read_text(errors="replace")[-8000:])
                if best == "it left no word" or re.search(r"fatal|error", line, re.I):
                    best, where = line, path
        return f"{best} ({where})"

    def wait_for_nodes(self, seconds: float) -> None:
        deadline, absent_since = time.monotonic() + seconds, dict[str, float]()
        while True:
            states = self.node_states()
            bad = {
                node: state
                for node, state in states.items()
                if state.startswith(("down", "unknown", "future")) or state.endswith("*")
            }
            if states and not bad:
                return
            self._raise_if_ended(self.daemon_names, absent_since)
            if time.monotonic() > deadline:
                shown = ", ".join(f"{node} {state}" for node, state in bad.items()) or "none known"
                logs = self.folder / "log"
                raise UserError(f"nodes not ready after {seconds:.0f} s: {shown} (logs: {logs})")
            time.sleep(0.05)

    def node_states(self) -> dict[str, str]:
        text = self.ask("sinfo", "-h", "-N", "-o", "%N %T").stdout
        return dict(line.split() for line in text.splitlines() if len(line.split()) == 2)


def last_line(text: str) -> str:
    """The last line that speaks of a failure, else the last line, without its time stamp."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"fatal|\berror\b", line, re.I)]
    line = (telling or lines or ["it left no word"])[-1]
    return re.sub(r"^\[?\d{4}-\d\d-\d\d[T ]+[\d:.]+\]?\s*", "", line)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _greets(path: str) -> bool:
    """MariaDB speaks first: a packet with its version."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
            return len(probe.recv(5)) == 5
        except OSError:
            return False
