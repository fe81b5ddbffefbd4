"""A private, real SLURM in one folder: up, down, status, env.

Four virtual nodes with typed GPUs that are links to /dev/null, accounting in a private MariaDB,
authentication by a munge key of the folder's own. Works as root and as a plain user and never looks at a
site's SLURM. SLURM's daemons listen on all addresses of the machine (they cannot be bound to 127.0.0.1 by
configuration), but answer only to holders of the key, which lies in the folder with mode 0400.

Every public function takes the folder, or None for PROXYGRM_CLUSTER_DIR or else the repository's .local/cluster.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_text
from slurm.local import folder as folders
from slurm.local import processes
from slurm.local.binaries import Programs, find_programs
from slurm.local.config import ClusterSpec, Ports, nodes_of, render
from slurm.local.daemons import Cluster, client_environment, user_name
from slurm.local.ports import claimed

Say = Callable[[str], None]
Folder = Path | str | None
ENDING_S = 5.0
"""Beyond KillWait, for the controller to learn that a job's processes are gone."""
LOADED_S = 0.2
"""A daemon that was started this moment can be told by its environment from then on."""


@dataclass(frozen=True)
class DaemonStatus:
    name: str
    pid: int | None
    """None: not running."""
    memory_mb: float


@dataclass(frozen=True)
class NodeStatus:
    name: str
    state: str
    gpus: str
    address: str
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class ClusterStatus:
    folder: Path
    exists: bool
    """Whether a cluster was ever made in the folder."""
    up: bool
    """Every daemon lives and the controller answers."""
    port: int | None
    daemons: tuple[DaemonStatus, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    """Empty while the controller does not answer."""

    @property
    def memory_mb(self) -> float:
        return sum(daemon.memory_mb for daemon in self.daemons)


def up(
    folder: Folder = None,
    *,
    spec: ClusterSpec | None = None,
    temporary: bool | None = None,
    say: Say = lambda line: None,
) -> bool:
    """Bring the cluster up and wait until every node may take jobs. False when it was up already.

    temporary: True for the caller's own use, who calls `down_if_unused` at the end; False for one that is to stay. One
    that is up stays what it is, or is to stay; one that is started is to stay unless True is said.

    After an unclean stop only what died is started again. `spec` None means: as it was last time, at first
    the default. `say` gets a line at each step. Raises UserError (one line) for missing programs, an unusable
    folder, a busy fixed port, other knobs than those of the running cluster, and a daemon that does not start;
    then nothing that was started stays.
    """
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    programs = find_programs()
    folders.prepare(path)
    with folders.locked(path):
        folders.refuse_strangers(path)
        record = folders.read_record(path) or folders.new_record(spec or ClusterSpec())
        wanted = spec or record.spec
        living = processes.daemons(record.id)
        if living and wanted != record.spec:
            raise UserError(f"the cluster in {path} runs with other settings: take it down first")
        if record.host not in (None, socket.gethostname()):
            remedy = f"take it down there, or remove {path} if that machine is gone"
            raise UserError(f"the cluster in {path} was brought up on {record.host}: {remedy}")
        record = replace(record, spec=wanted, host=socket.gethostname())
        passing = record.temporary and temporary is not False if living else bool(temporary)
        record = replace(record, temporary=passing)
        if living and record.port is not None:
            if folders.with_alias(path, record) != record:
                raise UserError(f"the cluster in {path} has lost its link {record.alias}: take it down first")
            folders.write_record(path, record)
            return _start_missing(_cluster(path, record, record.port, programs), living, say)
        with claimed(wanted, path, record.port) as ports:
            try:
                record = replace(folders.with_alias(path, record), port=ports.first)
                folders.write_record(path, record)
                cluster = _cluster(path, record, ports.first, programs)
                _write_configuration(cluster)
                return _start_missing(cluster, {}, say)
            except BaseException as error:
                with contextlib.suppress(OSError):
                    folders.write_record(path, replace(folders.without_alias(path, record), host=None))
                if isinstance(error, OSError):
                    raise UserError(f"the cluster in {path} did not start: {error}") from error
                raise


def down_if_unused(folder: Folder = None) -> str:
    """Take down a temporary cluster that nobody uses. Returns why it stays up; "" when it is down."""
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    record = folders.read_record(path)
    if record is None or not controller_lives(path):
        return ""
    if not record.temporary:
        return "it was up before"
    with folders.unused(path) as unused:
        if not unused:
            return "another command uses it"
        cluster = _cluster(path, record, record.port or 0, find_programs())
        if jobs := cluster.ask("squeue", "-h", "-o", "%A").stdout.split():
            return f"jobs are in its queue ({', '.join(jobs)})"
        down(path)
        return ""


def made(folder: Folder = None) -> bool:
    """Whether a cluster was ever made in the folder."""
    return folders.read_record(folders.resolve(folder)) is not None


def controller_lives(folder: Folder = None) -> bool:
    """Whether there is anybody to ask; known at once."""
    record = folders.read_record(folders.resolve(folder))
    return record is not None and "slurmctld" in processes.daemons(record.id)


def queue_left_on(folder: Folder = None) -> str:
    """The machine on which it ended without being taken down (or still is up): it has its queue yet. "" otherwise."""
    record = folders.read_record(folders.resolve(folder))
    return (record and record.host) or ""


def down(folder: Folder = None, *, say: Say = lambda line: None) -> bool:
    """Cancel what still runs or waits, stop every daemon, leave no process. False when nothing ran."""
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    record = folders.read_record(path)
    if record is None:
        return False
    with folders.locked(path):
        record = folders.read_record(path) or record
        conf = folders.conf_path(path)
        any_left = bool(processes.marked(record.id) or processes.job_processes(record.id, conf))
        if any_left:
            _stop_everything(_cluster(path, record, record.port or 0, find_programs()), say)
        if record.host in (None, socket.gethostname()):
            folders.write_record(path, replace(folders.without_alias(path, record), host=None))
        return any_left


def status(folder: Folder = None) -> ClusterStatus:
    """What lives of the cluster now; never changes anything and works on a stopped or never made one."""
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    record = folders.read_record(path)
    if record is None:
        return ClusterStatus(path, exists=False, up=False, port=None)
    cluster = _cluster(path, record, record.port or 0, find_programs())
    living = processes.daemons(record.id)
    daemons = tuple(
        DaemonStatus(name, living[name].pid, processes.memory_mb(living[name].pid))
        if name in living
        else DaemonStatus(name, None, 0.0)
        for name in cluster.daemon_names
    )
    answers = "slurmctld" in living and cluster.answers("slurmctld")
    nodes = _node_status(cluster) if answers else ()
    return ClusterStatus(path, True, answers and len(living) == len(daemons), record.port, daemons, nodes)


def env(folder: Folder = None) -> dict[str, str]:
    """Variables that point SLURM's own commands, submitit and jobs at this cluster.

    PATH, where it must change, is the whole new value. Raises UserError when no cluster was ever made in the folder.
    """
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    if folders.read_record(path) is None:
        raise UserError(f"no local cluster in {path}: bring it up first with `proxygrm cluster up`")
    return client_environment(path, find_programs())


def exports(folder: Folder = None) -> str:
    """The same as shell lines for `eval "$(proxygrm cluster env)"`; PATH is given as an addition."""
    lines = []
    before = os.environ.get("PATH", os.defpath)
    for name, value in env(folder).items():
        if name == "PATH" and value.endswith(before):
            lines.append(f'export PATH={shlex.quote(value.removesuffix(before))}"$PATH"')
        elif name == "PATH":
            lines.append(f'export PATH="$PATH"{shlex.quote(value.removeprefix(before))}')
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    return "\n".join(lines) + "\n"


# -- inside ------------------------------------------------------------------------------------------------


def _cluster(path: Path, record: folders.Record, port: int, programs: Programs) -> Cluster:
    return Cluster(path, folders.base_of(path, record), record.id, record.spec, Ports(port), programs)


def _write_configuration(cluster: Cluster) -> None:
    nodes = [node.name for node in nodes_of(cluster.spec, cluster.ports)]
    folders.lay_out(cluster.folder, nodes, cluster.spec.gpus_per_node)
    files = render(
        cluster.spec,
        cluster.ports,
        base=cluster.base,
        user=user_name(),
        plugin_dir=cluster.programs.plugin_dir,
    )
    for name, text in files.items():
        mode = 0o600 if name == "slurmdbd.conf" else 0o644  # slurmdbd refuses a file that others can read
        write_text(cluster.folder / "etc" / name, text, mode)


def _start_missing(cluster: Cluster, living: dict[str, processes.Process], say: Say) -> bool:
    """Start what does not live, in the order in which the daemons need each other."""
    missing = [name for name in cluster.daemon_names if name not in living]
    if not missing and cluster.answers("slurmctld"):
        return False
    if living and missing:
        say(f"starting again what had ended: {', '.join(missing)}")
    begun = time.monotonic()

    def start(names: list[str], seconds: float) -> None:
        for name in names:
            if name in missing:
                cluster.start(name)
        cluster.wait_for(names, seconds)

    try:
        if "mariadbd" in missing and not (cluster.folder / "db").exists():
            say("making the accounting database")
            cluster.make_database()
        start(["munged", "mariadbd"], 60)
        start(["slurmdbd"], 90)
        known = cluster.ask("sacctmgr", "-n", "show", "cluster", "format=cluster%40").stdout.split()
        if cluster.spec.name not in known:
            cluster.ask("sacctmgr", "-i", "add", "cluster", cluster.spec.name)
        say(f"accounting answers after {time.monotonic() - begun:.1f} s")
        # The controller first: a slurmd that finds it registers at once, else its node waits for a ping.
        start(["slurmctld"], 60)
        nodes = [name for name in cluster.daemon_names if name.startswith("slurmd-")]
        if "slurmctld" in living:
            _clear_nodes(cluster, [name for name in nodes if name in missing])
        start(nodes, 10)
        cluster.wait_for_nodes(60)
    except BaseException:  # Ctrl-C too
        time.sleep(LOADED_S)
        processes.stop([p for p in processes.daemons(cluster.id).values() if p.name in missing], 5)
        raise
    say(f"{cluster.spec.node_count} nodes ready after {time.monotonic() - begun:.1f} s")
    return True


def _clear_nodes(cluster: Cluster, names: list[str]) -> None:
    """Before the slurmd of a node is started again: end what is left there of jobs the controller gave up."""
    for name in names:
        node = name.removeprefix("slurmd-")
        here = cluster.ask("squeue", "-h", "-t", "R,S,CG", "-w", node, "-o", "%A").stdout.split()
        processes.kill(processes.given_up_steps(cluster.id, name, {int(job) for job in here}))


def _stop_everything(cluster: Cluster, say: Say) -> None:
    conf = folders.conf_path(cluster.folder)
    living = processes.daemons(cluster.id)
    if "slurmctld" in living and (jobs := cluster.ask("squeue", "-h", "-o", "%A", seconds=5).stdout.split()):
        say(f"cancelling {len(jobs)} job(s)")
        cluster.ask("scancel", "--quiet", f"--user={user_name()}", seconds=5)
        _wait_until_no_job_is_ending(cluster)
    # What ended jobs left, and what traps the signal for longer than the scheduler waits.
    processes.kill(processes.wait_gone(processes.job_processes(cluster.id, conf), 0.8))
    nodes = [living[name] for name in living if name.startswith("slurmd-")]
    controller = [living[name] for name in living if name == "slurmctld"]
    processes.ask_to_end([*nodes, *controller])
    # A slurmd may wait for a job that is gone; it holds nothing that must be saved, the controller does.
    processes.kill(processes.wait_gone(nodes, 1.0))
    processes.stop(controller, 5.0)
    for name, seconds in (("slurmdbd", 3.0), ("mariadbd", 10.0), ("munged", 2.0)):
        processes.stop([living[name]] if name in living else [], seconds)
    processes.kill([*processes.marked(cluster.id), *processes.job_processes(cluster.id, conf)])


def _wait_until_no_job_is_ending(cluster: Cluster) -> None:
    """A job whose daemons stop while it ends is found ending by the next ones, and nobody is left to end it."""
    deadline = time.monotonic() + cluster.spec.kill_wait_s + ENDING_S
    while cluster.ask("squeue", "-h", "-o", "%A", seconds=5).stdout.split() and time.monotonic() < deadline:
        time.sleep(0.1)


def _node_status(cluster: Cluster) -> tuple[NodeStatus, ...]:
    addresses = {node.name: node.address for node in nodes_of(cluster.spec, cluster.ports)}
    text = cluster.ask("sinfo", "-h", "-N", "-o", "%N|%T|%G|%R").stdout
    found: dict[str, NodeStatus] = {}
    for line in text.splitlines():
        name, state, gpus, partition = line.split("|")
        gpus = re.sub(r"\(.*?\)", "", gpus)
        before = found.get(name, NodeStatus(name, state, gpus, addresses.get(name, "?"), ()))
        found[name] = replace(before, partitions=(*before.partitions, partition))
    return tuple(found.values())
