"""Starting the daemons of a private cluster in the order in which they need each other, and stopping them."""

from __future__ import annotations

import logging
import time

from proxygrm.core.files.whole_file import write_text
from slurm.local import folder as folders
from slurm.local import processes
from slurm.local.config import nodes_of, render
from slurm.local.daemons import Cluster, user_name

log = logging.getLogger(__name__)

ENDING_S = 5.0
"""Beyond KillWait, for the controller to notice that a job's processes are gone."""
LOADED_S = 0.2
"""After this long a new daemon can be recognised by its environment."""


def write_configuration(cluster: Cluster) -> None:
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


def start_missing(cluster: Cluster, living: dict[str, processes.Process]) -> bool:
    """Start the daemons that are not in `living`. False when there was nothing to start."""
    missing = [name for name in cluster.daemon_names if name not in living]
    if not missing and cluster.answers("slurmctld"):
        return False
    if living and missing:
        log.info("restarting the daemons that had ended: %s", ", ".join(missing))
    started = time.monotonic()

    def start(names: list[str], timeout_s: float) -> None:
        for name in names:
            if name in missing:
                cluster.start(name)
        cluster.wait_for(names, timeout_s)

    try:
        if "mariadbd" in missing and not (cluster.folder / "db").exists():
            log.info("creating the accounting database")
            cluster.make_database()
        start(["munged", "mariadbd"], 60)
        start(["slurmdbd"], 90)
        known = cluster.ask("sacctmgr", "-n", "show", "cluster", "format=cluster%40").stdout.split()
        if cluster.spec.name not in known:
            cluster.ask("sacctmgr", "-i", "add", "cluster", cluster.spec.name)
        log.info("accounting answers after %.1f s", time.monotonic() - started)
        # The controller first: a slurmd that reaches it registers at once, else its node waits for a ping.
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
    log.info("%d nodes ready after %.1f s", cluster.spec.node_count, time.monotonic() - started)
    return True


def _clear_nodes(cluster: Cluster, names: list[str]) -> None:
    """Before the slurmd of a node is started again: end the processes there of jobs that the controller gave up."""
    for name in names:
        node = name.removeprefix("slurmd-")
        running = cluster.ask("squeue", "-h", "-t", "R,S,CG", "-w", node, "-o", "%A").stdout.split()
        processes.kill(processes.abandoned_steps(cluster.id, name, {int(job) for job in running}))


def stop_everything(cluster: Cluster) -> None:
    """Cancel the jobs, then stop every daemon and whatever else of the cluster is running."""
    conf = folders.conf_path(cluster.folder)
    living = processes.daemons(cluster.id)
    if "slurmctld" in living and (jobs := cluster.ask("squeue", "-h", "-o", "%A", seconds=5).stdout.split()):
        log.info("cancelling %d job(s)", len(jobs))
        cluster.ask("scancel", "--quiet", f"--user={user_name()}", seconds=5)
        _wait_until_no_job_is_ending(cluster)
    # Processes that ended jobs left, and those that ignore SIGTERM for longer than the scheduler waits.
    processes.kill(processes.wait_gone(processes.job_processes(cluster.id, conf), 0.8))
    nodes = [living[name] for name in living if name.startswith("slurmd-")]
    controller = [living[name] for name in living if name == "slurmctld"]
    processes.terminate([*nodes, *controller])
    # A slurmd may wait for a job that is gone. It has no state to save; the controller has.
    processes.kill(processes.wait_gone(nodes, 1.0))
    processes.stop(controller, 5.0)
    for name, timeout_s in (("slurmdbd", 3.0), ("mariadbd", 10.0), ("munged", 2.0)):
        processes.stop([living[name]] if name in living else [], timeout_s)
    processes.kill([*processes.marked(cluster.id), *processes.job_processes(cluster.id, conf)])


def _wait_until_no_job_is_ending(cluster: Cluster) -> None:
    """A job whose daemons stop while it ends is still ending for the next ones, and no process of it is left to end."""
    deadline = time.monotonic() + cluster.spec.kill_wait_s + ENDING_S
    while cluster.ask("squeue", "-h", "-o", "%A", seconds=5).stdout.split() and time.monotonic() < deadline:
        time.sleep(0.1)
