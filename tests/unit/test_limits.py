"""What a partition forbids, from the scheduler's own words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.limits import NodeFacts, forbidden, minutes, read_partition
from jobs.stage import Resources, Stage, StageRun
from slurm.profile import Node, Profile, Scheduler

SCONTROL = (
    "PartitionName=gpu AllowGroups=ALL AllowAccounts={accounts} AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=01:00:00 DisableRootJobs=NO Hidden=NO MaxNodes={nodes} MaxTime={time} MinNodes=0 LLN=NO "
    "Nodes=a100-[1-2],h100-[1-2] State={state} TotalCPUs=256 TotalNodes=4 JobDefaults=(null)"
)
SINFO = """a1|gpu:a100:8|64|500000
a2|gpu:a100:8(S:0-1)|64|500000
h1|gpu:h100:4,gpu:1g.10gb:7|96|1000000
c1|(null)|128|250000
"""
PROFILE = Profile("site", scheduler=Scheduler(partition="gpu", account="lab"), node=Node(gpu_type="a100"))


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def refusal(
    on: Resources, profile: Profile = PROFILE, accounts="ALL", nodes="UNLIMITED", time="UNLIMITED", state="UP"
) -> str | None:
    line = SCONTROL.format(accounts=accounts, nodes=nodes, time=time, state=state)
    return forbidden(Stage("rl", nothing, (), on), profile, read_partition(line, SINFO))


GPU_JOB = Resources(nodes=2, gpus_per_node=8, cpus_per_node=64, memory_gb=400, walltime_min=60)


def test_what_fits_is_not_refused() -> None:
    assert refusal(GPU_JOB) is None
    assert refusal(Resources(cpus_per_node=128, memory_gb=200)) is None
    assert refusal(replace(GPU_JOB, walltime_min=2880), nodes="2", time="2-00:00:00", accounts="other,lab") is None


@pytest.mark.parametrize(
    ("on", "site", "words"),
    [
        (GPU_JOB, {"nodes": "1"}, "rl asks for 2 nodes, partition gpu allows 1 to a job (MaxNodes)"),
        (
            replace(GPU_JOB, walltime_min=61),
            {"time": "1:00:00"},
            "rl asks for 61 min, partition gpu allows 60 (MaxTime)",
        ),
        (replace(GPU_JOB, nodes=3), {}, "rl asks for 3 nodes, partition gpu has 2 that are large enough"),
        (replace(GPU_JOB, gpus_per_node=9), {}, "rl asks for 9 a100 GPUs a node, partition gpu has at most 8"),
        (replace(GPU_JOB, cpus_per_node=96), {}, "rl asks for 96 CPUs a node, partition gpu has at most 64"),
        (replace(GPU_JOB, memory_gb=490), {}, "rl asks for 490 GB a node, partition gpu has at most 488"),
        (GPU_JOB, {"state": "DOWN"}, "partition gpu, where rl goes, is DOWN; name another with --partition"),
        (GPU_JOB, {"accounts": "a,b"}, "partition gpu is not open to account lab; name another with --account"),
    ],
)
def test_what_the_partition_forbids_is_one_line(on: Resources, site: dict[str, str], words: str) -> None:
    found = refusal(on, **site)
    assert found is not None
    assert found.startswith(words)
    assert "\n" not in found


def test_a_gpu_type_that_is_not_there_names_those_that_are() -> None:
    other = replace(PROFILE, node=Node(gpu_type="h200"))
    assert refusal(GPU_JOB, other) == (
        "rl asks for GPUs of type h200, partition gpu has a100, h100, 1g.10gb (node.gpu_type)"
    )
    assert refusal(Resources(cpus_per_node=1, memory_gb=1), other) is None, "a stage without GPUs does not ask for it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("UNLIMITED", 0), ("infinite", 0), ("30", 30), ("30:00", 30), ("1:30:00", 90), ("2-00:00:00", 2880),
        ("2-12", 3600), ("1-00:30", 1470), ("nonsense", 0),
    ],
)  # fmt: skip
def test_times_are_read_in_all_of_slurms_forms(text: str, expected: int) -> None:
    assert minutes(text) == expected


def test_gpus_of_any_type_are_the_most_of_one_type() -> None:
    both = NodeFacts("n", (("a100", 2), ("h100", 4)), 8, 8)
    assert (both.gpus_of(""), both.gpus_of("a100"), both.gpus_of("none")) == (4, 2, 0)
