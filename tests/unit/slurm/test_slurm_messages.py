"""The sentences of this room's errors, each exactly once; other tests compare codes and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.errors import UserError
from slurm import commands, environment, limits, private, profile, reach
from slurm.health.preflight import bad_nodes
from slurm.health.preflight import run as preflight
from slurm.health.preflight.judge import Bad, Verdict
from slurm.local import binaries, cluster, config, daemons, folder, ports
from slurm.profile import Health, Profile
from slurm.ray import addresses, node, plan, readiness
from slurm.ray.plan import NodeRecord, NodeRole, Share
from slurm.ray.rendezvous import Rendezvous


def raised(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """ "CODE: SENTENCE" of the UserError that the call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return f"{caught.value.code}: {caught.value}"


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the only one on PATH; no variables of a job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    (tmp_path / "bin").mkdir()
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


PROFILES = {
    '[environment.variables]\nHF_TOKEN = "x"\n': "profile.secret: {}: environment.variables.HF_TOKEN looks like a "
    "secret and would be written into submitted scripts; export it in your shell or keep it in a 0600 file instead",
    '[node]\ndevice = "tpu"\n': "profile.unusable: {}: node.device: 'tpu' is unknown; there are cuda and cpu",
    "[scheduler]\npartition = 'a\\b'\n": "profile.unusable: {}: partition contains a backslash, which sbatch would "
    "remove; write it without",
    '[scheduler.sbatch]\nmail_user = "me"\n': "profile.unusable: {}: scheduler.sbatch: 'mail_user' is not the long "
    "name of an option, such as mail-user",
    '[scheduler.sbatch]\nqos = "long"\n': "profile.unusable: {}: scheduler.sbatch.qos: set it with scheduler.qos",
    '[scheduler.sbatch]\nrequeue = "no"\n': "profile.unusable: {}: scheduler.sbatch.requeue: the chain sets it and "
    "depends on it",
    '[environment.variables]\nMY-NAME = "x"\n': "profile.unusable: {}: environment.variables: 'MY-NAME' is not a name "
    "that a shell can export",
    '[scheduler]\nexclusive = "me"\n': "profile.unusable: {}: scheduler.exclusive: 'me' is unknown; there are user, "
    "mcs and node",
    '[environment]\nvenv = "~/venv"\n': "profile.unusable: {}: environment.venv: '~/venv' is not expanded by a shell; "
    "write the whole path",
    '[environment]\nmodules = ["a; b"]\n': "profile.unusable: {}: environment.modules: 'a; b' is not a module's name; "
    "shell lines belong in environment.setup",
    '[container]\nruntime = "docker"\nimage = "x"\n': "profile.unusable: {}: container.runtime: 'docker' is unknown; "
    "there are pyxis and apptainer",
    '[container]\nruntime = "pyxis"\n': "profile.unusable: {}: container: runtime and image belong together; give both "
    "or neither",
    '[container]\nmounts = ["data"]\n': "profile.unusable: {}: container.mounts: 'data' is not /HOST, /HOST:/INSIDE or "
    "/HOST:/INSIDE:ro",
    "[health]\nslow_factor = 0.5\n": "profile.unusable: {}: health: slow_factor is at least 1, timeout_s above 0, "
    "gpu_memory_free between 0 and 1",
}


@pytest.mark.parametrize("text", PROFILES)
def test_profiles(here: Path, text: str) -> None:
    file = here / "site.toml"
    file.write_text(text)
    assert raised(profile.load, str(file)) == PROFILES[text].format(file)


def test_profiles_that_cannot_be_read(here: Path) -> None:
    (here / "site.toml").write_text("[scheduler\n")
    assert raised(profile.load, "site.toml").startswith("profile.not-toml: site.toml: not valid TOML: ")
    unknown = f"there is no cluster profile 'h10' ({profile.CLUSTERS}/h10.toml); did you mean 'h100'? "
    assert raised(profile.load, "h10") == f"profile.unknown-name: {unknown}(or give the path of your own .toml)"


def test_commands(here: Path) -> None:
    remedy = "log in to the cluster's login node, or `make cluster-up` starts a private one"
    assert raised(commands.ask, "squeue") == f"slurm.not-installed: no SLURM here: squeue is not on PATH; {remedy}"
    assert raised(reach.require_slurm) == f"slurm.not-installed: no SLURM here: sbatch is not on PATH; {remedy}"
    program(here / "bin" / "squeue", "echo 'squeue: error: Invalid user' >&2; exit 1")
    assert raised(commands.ask, "squeue") == "slurm.command-failed: squeue failed: Invalid user"
    program(here / "bin" / "squeue", "exec /bin/sleep 100")
    late = "SLURM did not answer squeue within 0 s; try again"
    assert raised(commands.ask, "squeue", timeout_s=0.2) == f"slurm.timeout: {late}"
    (here / "bin" / "sinfo").touch(mode=0o644)
    assert raised(commands.ask, "sinfo") == "slurm.command-not-runnable: sinfo cannot be run: Permission denied"
    for name in ("sbatch", "srun"):
        program(here / "bin" / name, "true")
    program(here / "bin" / "scontrol", "echo 'Slurmctld(primary) at n1 is DOWN'; exit 1")
    down = "SLURM does not answer: Slurmctld(primary) at n1 is DOWN"
    assert raised(reach.require_slurm) == f"slurm.controller-down: {down}"


def test_folders_and_containers(here: Path) -> None:
    container = profile.Container("pyxis", "x.sif")
    refused = f"{here}/a:b cannot be mounted into a container: rename the folder that has a colon or a comma"
    command = raised(environment.python_command, Profile("s", container=container), here / "a:b")
    assert command == f"slurm.path-not-mountable: {refused}"
    pattern = "contains % and \\, which SLURM takes for a pattern; choose another folder"
    assert environment.path_problem(Path("/runs/a%b\\c")) == rf"the path '/runs/a%b\\c' {pattern}"
    (here / "file").touch()
    assert raised(private.make_jobs, here / "file", here / "file" / "jobs") == (
        f"run.folder-not-writable: cannot make {here}/file/jobs: Not a directory; free space or choose another --run "
        "folder"
    )


def test_private_files(here: Path) -> None:
    run = here / "run"
    (run / "rl").mkdir(parents=True)
    run.chmod(0o755)
    (run / "rl").chmod(0o777)
    assert raised(private.refuse_shared, run, [run / "rl"]) == (
        f"run.writable-by-others: {run}/rl may be written by others (drwxrwxrwx): they could run code in your jobs, "
        f"which load their pickles there; chmod go-w {run}/rl"
    )
    (run / "rl" / "rng.pt").touch()
    assert raised(private.refuse_planted, run) == (
        f"run.untrusted-checkpoint: {run}/rl may be written by others (drwxrwxrwx), and resuming from it runs its "
        f"content as code; if you trust it: chmod -R go-w {run} (and chown), else remove it: the stage starts from the "
        "beginning"
    )


def test_ray_plans_and_addresses(here: Path) -> None:
    one, two = NodeRecord(0, "a", "10.0.0.1"), NodeRecord(1, "b", "10.0.0.1")
    same = "two nodes have the same address: a=10.0.0.1, b=10.0.0.1"
    assert raised(plan.plan_cluster, [one, two], 8) == f"ray.duplicate-address: {same}"
    assert raised(plan.plan_cluster, [one], 2, [Share("proxy", nodes=1, gpus=2)]) == (
        "ray.node-too-small: one node with 2 GPUs cannot hold the trainer and 2 GPUs of proxy; ask for more nodes "
        "(--nodes 2), or fewer GPUs for these"
    )
    other = NodeRecord(1, "b", "10.0.0.2")
    assert raised(plan.plan_cluster, [one, other], 8, [Share("proxy", nodes=2)]) == (
        "ray.no-training-node: 2 proxy nodes of 2 nodes leave none to train; ask for more nodes (--nodes), or fewer of "
        "these"
    )
    assert raised(Rendezvous(here, 0, 3).nodes, "a", "10.0.0.1", 0.0) == (
        "ray.rendezvous-timeout: the nodes did not meet in time: 1 of 3 nodes have started"
    )
    meeting = Rendezvous(here / "failed", 0, 2)
    meeting.report_failure("a", "Ray was killed by SIGKILL")
    assert raised(meeting.nodes, "a", "10.0.0.1", 0.0) == "ray.node-failed: node a: Ray was killed by SIGKILL"


def test_addresses(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    missing = raised(addresses.interface_address, "ib7")
    assert missing.startswith("slurm.no-interface: node n1 has no network interface 'ib7'; it has ")
    assert missing.endswith("; set node.interface in the profile")
    assert raised(addresses.interface_of, "192.0.2.77") == (
        "slurm.no-interface-of-address: no interface of node n1 has the address 192.0.2.77; set node.interface in the "
        "profile"
    )
    program(here / "bin" / "scontrol", "echo 'NodeName=n1 State=FUTURE'")
    assert raised(addresses.node_address) == (
        "slurm.no-node-address: SLURM has no address for node n1: NodeName=n1 State=FUTURE"
    )


def test_a_ray_that_does_not_get_complete(here: Path) -> None:
    roles = (NodeRole(0, "a", "10.0.0.1", 8), NodeRole(1, "b", "10.0.0.2", 0, {"proxy": tuple(range(8))}))
    ray_node = node.RayNode(roles[0], {}, here, 1, 1, here / "ray-a.log")
    assert raised(readiness.head_address, ray_node, 0.0) == (
        f"ray.no-head: node a: Ray's head never opened a port; see {here}/ray-a.log"
    )
    alive = [{"NodeManagerAddress": "10.0.0.1", "Alive": True, "Resources": {"GPU": 8.0}}]
    meeting = Rendezvous(here, 0, 2)
    assert raised(readiness.wait_until_complete, plan.ClusterPlan(roles), lambda: alive, meeting, ray_node, 0.0) == (
        "ray.incomplete: Ray is not complete: 1 of 2 nodes (missing: b (10.0.0.2)), 8 of 8 trainer GPUs, 0 of 8 GPUs "
        "of services"
    )


def test_preflight(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    site = Profile("s", health=Health(max_requeues=1))
    every = Verdict(group="every node, for example n1: 7 of 8 GPUs (GPUs)")
    assert raised(preflight._act, every, site, here, "rl") == (
        "preflight.all-nodes: preflight: every node, for example n1: 7 of 8 GPUs (GPUs); no single node is the cause, "
        "so fix this or the profile's [health] table (node.interface, the site's check); health.preflight = false "
        "skips it"
    )
    bad = Verdict((Bad("n1", "clock", "its clock is +61.0 s off"),))
    program(here / "bin" / "scontrol", "echo 'Access/permission denied' >&2; exit 1")
    assert raised(preflight._act, bad, site, here, "rl") == (
        "preflight.not-requeued: preflight: node n1: its clock is +61.0 s off; and the job could not be requeued "
        "without: scontrol failed: Access/permission denied"
    )
    assert raised(preflight._act, bad, site, here, "rl") == (
        "preflight.bad-nodes: preflight: node n1: its clock is +61.0 s off; requeued 1 times already "
        f"(health.max_requeues = 1); all bad nodes are in {here}/bad_nodes.json: have them drained, or list them in "
        "scheduler.exclude"
    )
    monkeypatch.setattr(preflight, "END_S", 0.0)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    program(here / "bin" / "scontrol", "true")
    assert raised(preflight._act, bad, site, here, "rl") == (
        "preflight.not-ended: preflight: node n1: its clock is +61.0 s off; SLURM accepted the requeue and did not end "
        "this job"
    )
    (here / "bad_nodes.json").write_text("[")
    assert raised(bad_nodes.read, here).startswith(
        f"run.bad-nodes-unreadable: {here}/bad_nodes.json cannot be read: it is not JSON ("
    )


def test_local_clusters(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert raised(cluster.env, here / "none") == (
        f"cluster.none: no local cluster in {here}/none: bring it up first with `proxygrm cluster up`"
    )
    assert raised(config.ClusterSpec, nodes=(("h100", 9), ("a100", 9))) == (
        "cluster.node-count: a local cluster has 1 to 16 nodes, not 18"
    )
    assert raised(config.ClusterSpec, nodes=(("h 100", 1),)) == (
        "cluster.gpu-types: GPU types of a local cluster must be distinct plain words, not ['h 100']"
    )
    assert raised(config.ClusterSpec, port=80) == (
        "cluster.port-range: a block of 40 ports above 1023 cannot start at port 80"
    )
    (here / "used").mkdir()
    (here / "used" / "file").touch()
    assert raised(folder.prepare, here / "used") == (
        f"cluster.folder-not-empty: {here}/used contains other files and no local cluster: choose a new or empty folder"
    )
    assert raised(folder.prepare, here / "used" / "file" / "x") == (
        f"cluster.folder-unusable: a local cluster cannot use {here}/used/file/x: Not a directory; choose another "
        "folder"
    )
    monkeypatch.setattr(folder, "_NEEDED_MB", 1 << 40)
    full = raised(folder.prepare, here / "new")
    assert full.startswith(f"cluster.disk-full: {here}/new has ")
    assert full.endswith(f" MB free and a cluster needs {1 << 40}: free some space")
    (here / "used" / "cluster.json").write_text("{")
    assert raised(folder.read_record, here / "used").startswith(
        f"cluster.record-damaged: {here}/used/cluster.json cannot be read ("
    )


def test_local_clusters_of_another_host_or_with_other_settings(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_programs", lambda: binaries.Programs({}, None))
    away = here / "away"
    away.mkdir()
    folder.write_record(away, folder.Record("1", config.ClusterSpec(), host="login-7"))
    assert raised(cluster.up, away) == (
        f"cluster.other-host: the cluster in {away} was brought up on login-7: take it down there, or remove {away} if "
        "that machine is gone"
    )
    monkeypatch.setattr("slurm.local.processes.daemons", lambda cluster_id: {"slurmctld": None})
    assert raised(cluster.up, away, spec=config.ClusterSpec(gpus_per_node=1)) == (
        f"cluster.other-settings: the cluster in {away} runs with other settings: take it down first"
    )


def test_programs_and_daemons_of_a_local_cluster(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "repository", lambda: here)
    monkeypatch.setenv("PROXYGRM_FORCE_UNPACK", "1")
    assert raised(binaries.find_programs) == (
        "cluster.slurm-incomplete: no complete SLURM on this machine (missing: slurmctld, slurmd, slurmstepd, "
        "slurmdbd, ...): run `make setup`"
    )
    assert raised(lambda: binaries.Programs({}, here).plugin_dir) == (
        f"cluster.no-plugins: {here} contains no SLURM plug-ins: remove it and run `make setup`"
    )
    record = folder.Record("no such id", config.ClusterSpec())
    local = daemons.cluster_of(here, record, 1, binaries.Programs({}, None))
    (here / "log").mkdir()
    (here / "log" / "mariadbd.log").write_text("note\n[2026-01-01 10:00:00] fatal: no table\nbye\n")
    monkeypatch.setattr(daemons, "LOADED_WITHIN_S", -1.0)
    assert raised(local.wait_for, ["mariadbd"], 5) == (
        f"cluster.daemon-ended: mariadbd did not start: fatal: no table ({here}/log/mariadbd.log)"
    )
    monkeypatch.setattr(daemons.processes, "daemons", lambda cluster_id: {"mariadbd": None})
    assert raised(local.wait_for, ["mariadbd"], 0) == (
        f"cluster.daemon-silent: mariadbd does not answer after 0 s: fatal: no table ({here}/log/mariadbd.log)"
    )


def test_ports_of_a_local_cluster(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    assert raised(lambda: ports.claimed(config.ClusterSpec(port=9000), here, None).__enter__()) == (
        "cluster.port-busy: port 9000 is busy and the cluster's ports were fixed to start at 9000: choose another "
        "first port, or none to use a free block"
    )
    assert raised(lambda: ports.claimed(config.ClusterSpec(), here, None).__enter__()) == (
        "cluster.no-free-ports: no free block of ports for a local cluster between 28000 and 28600: stop another one "
        "or choose a first port"
    )


def test_limits_are_sentences_of_the_plan(here: Path) -> None:
    assert limits.problems([], Profile("s")) == []
