"""The daemons of one private cluster: how each is started and how to tell that it answers."""

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
from slurm.local.folder import Record, base_of, conf_path

LOADED_WITHIN_S = 2.0
NO_LOG = "nothing in its log"
_OTHERS = ("MYSQL_", *commands.KEPT)


def user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise UserError(
            f"user id {os.getuid()} has no name on this machine, and SLURM needs one",
            code="cluster.user-without-name",
            uid=os.getuid(),
        ) from None


def client_environment(folder: Path, programs: Programs) -> dict[str, str]:
    """Variables that SLURM's own commands and jobs need in addition to the caller's. PATH is the whole new value."""
    path = os.environ.get("PATH", os.defpath)
    extra = [folder for folder in programs.folders if folder not in path.split(os.pathsep)]
    result = {"SLURM_CONF": str(conf_path(folder))}
    if programs.prefix is not None:
        extra = programs.folders  # before any other sinfo here
    if extra:
        result["PATH"] = os.pathsep.join([*extra, path] if programs.prefix else [path, *extra])
    if library_path := programs.library_path():
        before = [path for path in (os.environ.get("LD_LIBRARY_PATH"),) if path]
        result["LD_LIBRARY_PATH"] = os.pathsep.join([library_path, *before])
    return result


@dataclass(frozen=True)
class Cluster:
    """Everything needed to start, query and stop the daemons of one folder."""

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
        own = {key: value for key, value in commands.clean(os.environ).items() if not key.startswith(_OTHERS)}
        return {**own, **client_environment(self.folder, self.programs)}

    def ask(self, program: str, *arguments: str, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run one of SLURM's commands against this cluster; exit code 124 when it takes longer than `seconds`."""
        argv = [self.programs[program], *arguments]
        try:
            return subprocess.run(
                argv, env=self.environment(), cwd="/", text=True, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, "", f"{program} did not answer within {seconds:.0f} s")

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
                # the key (0400) and the socket are in a folder of mode 0700.
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
        """Initialise MariaDB's folder once. Its administrator is this user, by the socket's peer."""
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
                    f"--tmpdir={self.base}/run",
                ],
                env=self.environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                check=False,
            ).returncode  # fmt: skip
        if status != 0:
            reason = last_line(log.read_text(errors="replace"))
            raise UserError(
                f"MariaDB could not be initialised: {reason} ({log})",
                code="cluster.no-database",
                reason=reason,
                log=log,
            )
        new.rename(self.folder / "db")

    # -- answering -----------------------------------------------------------------------------------------

    def answers(self, name: str) -> bool:
        """Whether the daemon works, not merely runs."""
        match name:
            case "munged":
                return self._succeeds("munge", "-n", "-S", f"{self.base}/run/munge.sock")
            case "mariadbd":
                return _greets(f"{self.base}/run/mysql.sock")
            case "slurmdbd":
                return _listens(self.ports.slurmdbd) and self._succeeds("sacctmgr", "-n", "show", "cluster")
            case "slurmctld":
                return _listens(self.ports.slurmctld) and self._succeeds("squeue", "-h", "-o", "%A")
        return True  # slurmd: see the state of its node

    def _succeeds(self, program: str, *arguments: str) -> bool:
        done = self.ask(program, *arguments)
        if "unable to process configuration" in done.stderr.lower():  # waiting will not help
            reason = done.stderr.strip().splitlines()[0]
            raise UserError(
                f"{conf_path(self.folder)}: {reason}", code="cluster.wrong-configuration", path=conf_path(self.folder)
            )
        return done.returncode == 0

    def wait_for(self, names: list[str], seconds: float) -> None:
        """Until all of them answer. UserError with the end of its log when one exits or does not answer in time."""
        deadline = time.monotonic() + seconds
        waiting, absent_since = list(names), dict[str, float]()
        while waiting := [name for name in waiting if not self.answers(name)]:
            self._raise_if_ended(waiting, absent_since)
            if time.monotonic() > deadline:
                reason = self.last_words(waiting[0])
                raise UserError(
                    f"{waiting[0]} does not answer after {seconds:.0f} s: {reason}",
                    code="cluster.daemon-silent",
                    daemon=waiting[0],
                    reason=reason,
                )
            time.sleep(0.03)

    def _raise_if_ended(self, names: list[str], absent_since: dict[str, float]) -> None:
        """Ended means absent for a while: a program that is being loaded has no environment yet, and on a busy machine
        that takes time."""
        living, now = processes.daemons(self.id), time.monotonic()
        for name in names:
            if name in living:
                absent_since.pop(name, None)
            elif now - absent_since.setdefault(name, now) > LOADED_WITHIN_S:
                reason = self.last_words(name)
                raise UserError(
                    f"{name} did not start: {reason}", code="cluster.daemon-ended", daemon=name, reason=reason
                )

    def last_words(self, name: str) -> str:
        """The line of the daemon's log that says most about its end, and the path of the log."""
        best, where = NO_LOG, self.folder / "log"
        for path in (self.folder / "log" / f"{name}.log", self.folder / "log" / f"{name}.out"):
            if path.exists() and path.stat().st_size:
                line = last_line(path.read_text(errors="replace")[-8000:])
                if best == NO_LOG or re.search(r"fatal|error", line, re.I):
                    best, where = line, path
        return f"{best} ({where})"

    def wait_for_nodes(self, seconds: float) -> None:
        deadline, absent_since = time.monotonic() + seconds, dict[str, float]()
        while True:
            states = self.node_states()
            not_ready = {
                node: state
                for node, state in states.items()
                if state.startswith(("down", "unknown", "future")) or state.endswith("*")
            }
            if states and not not_ready:
                return
            self._raise_if_ended(self.daemon_names, absent_since)
            if time.monotonic() > deadline:
                listed = ", ".join(f"{node} {state}" for node, state in not_ready.items()) or "none known"
                logs = self.folder / "log"
                raise UserError(
                    f"nodes not ready after {seconds:.0f} s: {listed} (logs: {logs})",
                    code="cluster.nodes-not-ready",
                    nodes=not_ready,
                )
            time.sleep(0.05)

    def node_states(self) -> dict[str, str]:
        text = self.ask("sinfo", "-h", "-N", "-o", "%N %T").stdout
        return dict(line.split() for line in text.splitlines() if len(line.split()) == 2)


def cluster_of(folder: Path, record: Record, port: int, programs: Programs) -> Cluster:
    """port: the first one of its block."""
    return Cluster(folder, base_of(folder, record), record.id, record.spec, Ports(port), programs)


def last_line(text: str) -> str:
    """The last line that reports a failure, else the last line, without its time stamp; MariaDB ends with one that only
    says "Aborting". SLURM's daemons log in a format of their own, so this is not `core.runtime.log_tail`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    failures = [line for line in lines if re.search(r"fatal|\berror\b", line, re.I) and not line.endswith(" Aborting")]
    line = (failures or lines or [NO_LOG])[-1]
    return re.sub(r"^\[?\d{4}-\d\d-\d\d[T ]+[\d:.]+\]?\s*", "", line)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _greets(path: str) -> bool:
    """Whether MariaDB sends its greeting, a packet with its version."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
            return len(probe.recv(5)) == 5
        except OSError:
            return False
