"""What a partition forbids, from the scheduler's own output."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.engine.stage import Stage, StageRun
from slurm.health.doctor.site import SiteNode, parse_nodes, parse_partitions
from slurm.limits import forbidden, gpus_of, too_large
from slurm.profile import Node, Profile, Scheduler
from slurm.sbatch import Resources

SCONTROL = (
    "PartitionName=gpu AllowGroups=ALL AllowAccounts={accounts} AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=01:00:00 DisableRootJobs=NO Hidden=NO MaxNodes={nodes} MaxTime={time} MinNodes=0 LLN=NO "
    "Nodes=a100-[1-2],h100-[1-2] State={state} TotalCPUs=256 TotalNodes=4 JobDefaults=(null)"
)
SINFO = """a1|gpu|idle|64|500000|(null)|gpu:a100:8
a2|gpu|drained|64|500000|(null)|gpu:a100:8(S:0-1)
h1|gpu|idle|96|1000000|(null)|gpu:h100:4,gpu:1g.10gb:7
c1|gpu|idle|128|250000|(null)|(null)
"""
PROFILE = Profile("site", scheduler=Scheduler(partition="gpu", account="lab"), node=Node(gpu_type="a100"))


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def refusal(
    on: Resources, profile: Profile = PROFILE, accounts="ALL", nodes="UNLIMITED", time="UNLIMITED", state="UP"
) -> str | None:
    line = SCONTROL.format(accounts=accounts, nodes=nodes, time=time, state=state)
    (partition,) = parse_partitions(line)
    return forbidden(Stage("rl", nothing, (), on), profile, partition, parse_nodes(SINFO))


GPU_JOB = Resources(nodes=2, gpus_per_node=8, cpus_per_task=64, mem_gb=400, timeout_min=60)


def test_what_fits_is_not_refused() -> None:
    assert refusal(GPU_JOB) is None
    assert refusal(Resources(cpus_per_task=128, mem_gb=200)) is None
    assert refusal(replace(GPU_JOB, timeout_min=2880), nodes="2", time="2-00:00:00", accounts="other,lab") is None


def cells(number: int) -> list[Stage]:
    stages = [Stage(f"cells/c{i}/grm_rl", nothing, (), Resources(), batch="ablation_rl") for i in range(number)]
    return stages


def test_an_array_larger_than_slurm_accepts_is_refused_with_the_remedy() -> None:
    assert too_large(cells(4), 4) is None
    assert too_large(cells(5), 4) == (
        "ablation_rl is an array of 5 jobs, SLURM here accepts 4 (MaxArraySize); "
        "a part of the cells at a time: --only 'PATTERN'"
    )
    shards = [Stage("distill", nothing, (), Resources(), array=5)]
    assert str(too_large(shards, 4)).endswith("(MaxArraySize); fewer shards: --set distill.shards=N")
    assert too_large(cells(1), 0) is None, "one job is not an array"
    assert too_large(cells(2), 0), "0: the site allows no arrays"


@pytest.mark.parametrize(
    ("on", "site", "words"),
    [
        (GPU_JOB, {"nodes": "1"}, "rl requests 2 nodes, partition gpu allows 1 per job (MaxNodes)"),
        (
            replace(GPU_JOB, timeout_min=61),
            {"time": "1:00:00"},
            "rl requests 61 min, partition gpu allows 60 (MaxTime)",
        ),
        (replace(GPU_JOB, nodes=3), {}, "rl requests 3 nodes, partition gpu has 2 that are large enough"),
        (replace(GPU_JOB, gpus_per_node=9), {}, "rl requests 9 a100 GPUs per node, partition gpu has at most 8"),
        (replace(GPU_JOB, cpus_per_task=96), {}, "rl requests 96 CPUs per node, partition gpu has at most 64"),
        (replace(GPU_JOB, mem_gb=490), {}, "rl requests 490 GB per node, partition gpu has at most 488"),
        (GPU_JOB, {"state": "DOWN"}, "partition gpu of rl is not up; choose another with --partition"),
        (GPU_JOB, {"accounts": "a,b"}, "partition gpu is not open to account lab; choose another with --account"),
    ],
)
def test_what_the_partition_forbids_is_one_line(on: Resources, site: dict[str, str], words: str) -> None:
    reason = refusal(on, **site)
    assert reason is not None
    assert reason.startswith(words)
    assert "\n" not in reason


def test_a_gpu_type_that_is_not_there_names_those_that_are() -> None:
    other = replace(PROFILE, node=Node(gpu_type="h200"))
    assert refusal(GPU_JOB, other) == (
        "rl requests GPUs of type h200, partition gpu has a100, h100, 1g.10gb (node.gpu_type)"
    )
    assert refusal(Resources(cpus_per_task=1, mem_gb=1), other) is None, "a stage without GPUs does not ask for it"


def test_gpus_of_any_type_are_the_most_of_one_type() -> None:
    both = SiteNode("n", "gpu", "idle", 8, 8, (), (("a100", 2), ("h100", 4)))
    assert (gpus_of(both, ""), gpus_of(both, "a100"), gpus_of(both, "none")) == (4, 2, 0)


def test_a_partition_whose_nodes_are_not_told_refuses_nothing_by_them() -> None:
    (partition,) = parse_partitions(SCONTROL.format(accounts="ALL", nodes="UNLIMITED", time="30:00", state="UP"))
    stage = Stage("rl", nothing, (), replace(GPU_JOB, nodes=900, timeout_min=30))
    assert forbidden(stage, PROFILE, partition, ()) is None
