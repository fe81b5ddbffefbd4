"""A private, real SLURM in one folder: up, down, env. For its state see `status`.

Four virtual nodes with typed GPUs that are links to /dev/null, accounting in a private MariaDB, authentication with a
munge key in the folder. Works as root and as a normal user and never uses a site's SLURM. SLURM's daemons listen on all
addresses of the machine (they cannot be bound to 127.0.0.1 by configuration), but answer only to holders of the key,
which has mode 0400.

Every function takes the folder; None is PROXYGRM_CLUSTER_DIR, else the repository's .local/cluster.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
from dataclasses import replace
from pathlib import Path

from proxygrm.core.errors import UserError
from slurm.local import folder as folders
from slurm.local import processes
from slurm.local.binaries import find_programs
from slurm.local.config import ClusterSpec
from slurm.local.daemons import client_environment, cluster_of
from slurm.local.lifecycle import start_missing, stop_everything, write_configuration
from slurm.local.ports import claimed

Folder = Path | str | None


def up(
    folder: Folder = None,
    *,
    spec: ClusterSpec | None = None,
    temporary: bool | None = None,
) -> bool:
    """Bring the cluster up and wait until every node accepts jobs. False when it was up already.

    temporary: True for a cluster that the caller takes down with `down_if_unused`; False for one that stays up. None: a
    running cluster remains what it is, and a new one stays up.

    After an unclean stop only the daemons that died are restarted. spec: None is that of the last time, or the default.
    Raises UserError (one line) for missing programs, an unusable folder, a busy fixed port, other settings than those
    of the running cluster, and a daemon that does not start; then everything that was started is stopped.
    """
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    programs = find_programs()
    folders.prepare(path)
    with folders.locked(path):
        folders.refuse_other_files(path)
        record = folders.read_record(path) or folders.new_record(spec or ClusterSpec())
        spec = spec or record.spec
        living = processes.daemons(record.id)
        if living and spec != record.spec:
            raise UserError(
                f"the cluster in {path} runs with other settings: take it down first",
                code="cluster.other-settings",
                path=path,
            )
        if record.host not in (None, socket.gethostname()):
            raise UserError(
                f"the cluster in {path} was brought up on {record.host}: take it down there, or remove {path} if that "
                "machine is gone",
                code="cluster.other-host",
                path=path,
                host=record.host,
            )
        record = replace(record, spec=spec, host=socket.gethostname())
        is_temporary = record.temporary and temporary is not False if living else bool(temporary)
        record = replace(record, temporary=is_temporary)
        if living and record.port is not None:
            if folders.with_alias(path, record) != record:
                raise UserError(
                    f"the cluster in {path} has lost its link {record.alias}: take it down first",
                    code="cluster.link-lost",
                    path=path,
                    link=record.alias,
                )
            folders.write_record(path, record)
            return start_missing(cluster_of(path, record, record.port, programs), living)
        with claimed(spec, path, record.port) as ports:
            try:
                record = replace(folders.with_alias(path, record), port=ports.first)
                folders.write_record(path, record)
                cluster = cluster_of(path, record, ports.first, programs)
                write_configuration(cluster)
                return start_missing(cluster, {})
            except BaseException as error:
                with contextlib.suppress(OSError):
                    folders.write_record(path, replace(folders.without_alias(path, record), host=None))
                if isinstance(error, OSError):
                    raise UserError(
                        f"the cluster in {path} did not start: {error}", code="cluster.not-started", path=path
                    ) from error
                raise


def down_if_unused(folder: Folder = None) -> str:
    """Take down a temporary cluster that no command uses. Returns why it stays up; "" when it is down."""
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    record = folders.read_record(path)
    if record is None or not controller_runs(path):
        return ""
    if not record.temporary:
        return "it was up before"
    with folders.unused(path) as unused:
        if not unused:
            return "another command uses it"
        cluster = cluster_of(path, record, record.port or 0, find_programs())
        if jobs := cluster.ask("squeue", "-h", "-o", "%A").stdout.split():
            return f"jobs are in its queue ({', '.join(jobs)})"
        down(path)
        return ""


def exists(folder: Folder = None) -> bool:
    """Whether a cluster was ever created in the folder."""
    return folders.read_record(folders.resolve(folder)) is not None


def controller_runs(folder: Folder = None) -> bool:
    """Whether SLURM's commands can get an answer; known at once."""
    record = folders.read_record(folders.resolve(folder))
    return record is not None and "slurmctld" in processes.daemons(record.id)


def host_with_queue(folder: Folder = None) -> str:
    """The machine on which it is up, or ended without being taken down, so that its queue remains. "" otherwise."""
    record = folders.read_record(folders.resolve(folder))
    return (record and record.host) or ""


def down(folder: Folder = None) -> bool:
    """Cancel all jobs, stop every daemon, leave no process. False when nothing was running."""
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    record = folders.read_record(path)
    if record is None:
        return False
    with folders.locked(path):
        record = folders.read_record(path) or record
        conf = folders.conf_path(path)
        was_running = bool(processes.marked(record.id) or processes.job_processes(record.id, conf))
        if was_running:
            stop_everything(cluster_of(path, record, record.port or 0, find_programs()))
        if record.host in (None, socket.gethostname()):
            folders.write_record(path, replace(folders.without_alias(path, record), host=None))
        return was_running


def env(folder: Folder = None) -> dict[str, str]:
    """Variables that point SLURM's own commands, submitit and jobs at this cluster.

    PATH, where it must change, is the whole new value. UserError when no cluster was ever created in the folder.
    """
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    if folders.read_record(path) is None:
        raise UserError(
            f"no local cluster in {path}: bring it up first with `proxygrm cluster up`",
            code="cluster.none",
            path=path,
        )
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
