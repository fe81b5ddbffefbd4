"""What can go wrong on a cluster, how it shows in logs or in SLURM's words, and what to do. Tables, nothing else.

Causes come before their effects: one process that runs out of memory makes the others report lost connections, so the
first row that any log shows is the one that counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """name: short, for --json. shows: a line of a log. means: continues "STAGE failed: ". {1}: a group of `shows`."""

    name: str
    shows: re.Pattern[str]
    means: str
    do: str


def _row(name: str, shows: str, means: str, do: str) -> Known:
    return Known(name, re.compile(shows), means, do)


FAILURES = (
    _row(
        "files that others could change",
        r"^refused to load (.+?): this job runs it as code",
        "another user owns or may write what it would have loaded as code: {1}",
        "see what is in it; chmod go-w it, or remove it and submit again (docs/security.md)",
    ),
    _row(
        "disk full",
        r"No space left on device|\bENOSPC\b|Disk quota exceeded|\bEDQUOT\b",
        "a file system is full, or your quota on it is used up",
        "free space where the line says (df -h, your site's quota command), then submit again: it resumes",
    ),
    _row(
        "GPU out of memory",
        r"CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError|CUDA error: out of memory"
        r"|No available memory for the cache blocks|less than desired GPU memory utilization",
        "a GPU ran out of memory",
        "lower what it holds: --set STAGE.ppo_micro_batch_size_per_gpu=1, a smaller gpu_memory_utilization, shorter "
        "responses, more nodes",
    ),
    _row(
        "host out of memory",
        r"[Dd]etected \d+ oom[-_]kill|oom[-_]kill event|\bOOM Killed\b|cgroup out-of-memory handler"
        r"|running low on memory|Cannot allocate memory|^(\S+: )?MemoryError\b|DefaultCPUAllocator: can't allocate"
        r"|std::bad_alloc",
        "a node's memory was used up",
        "ask for more (mem_gb of the stage), or give it less to hold: a smaller batch, fewer workers or shards",
    ),
    _row(
        "shared memory full",
        r"killed by signal: Bus error|insufficient shared memory|object_store_memory.*exceeds.*/dev/shm",
        "a node's /dev/shm is used up",
        "look into /dev/shm there; health.min_shm_gb in the profile keeps jobs off such nodes",
    ),
    _row(
        "missing module",
        r"ModuleNotFoundError: No module named '?([\w.]+)|ImportError: cannot import name '?([\w.]+)",
        "Python in the job has no {1}",
        "the job's environment is not the one you installed into: see [environment] venv, modules or python in the "
        "profile; `make setup` installs, `proxygrm doctor` tries it on a node",
    ),
    _row(
        "missing library",
        r"cannot open shared object file|version `GLIBC\S+' not found",
        "a shared library is missing on the node",
        "load the module that has it ([environment] modules), or use the container the profile can name",
    ),
    _row(
        "damaged checkpoint",
        r"the checkpoint at .+ is (?:damaged|incomplete)|SafetensorError|Error while deserializing header"
        r"|PytorchStreamReader failed|size mismatch for \S+: copying a param|invalid load key",
        "a checkpoint is damaged, incomplete, or of another model",
        "remove the newest checkpoint of the stage (its write was interrupted) or name another start, then "
        "submit again",
    ),
    _row(
        "no usable GPU",
        r"No CUDA GPUs are available|CUDA driver version is insufficient|CUDA-capable device\(s\) is/are busy"
        r"|Failed to initialize NVML|uncorrectable ECC error|\bXid \(|fallen off the bus",
        "a GPU of the node cannot be used",
        "report the node to your site; until then exclude it: scheduler.exclude in the profile",
    ),
    _row(
        "no network",
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https://huggingface\.co",
        "a model or data set was looked for on the hub, and compute nodes have no internet",
        "download it on the login node (hf download NAME), or name its path with --set",
    ),
    _row(
        "port in use",
        r"Address already in use|\bEADDRINUSE\b|[Pp]ort \d+ is already in use",
        "a port was taken by another process of that node",
        "submit again, other ports are chosen; if it persists, `proxygrm doctor` names what an earlier job left there",
    ),
    _row(
        "proxy crash loop",
        r"proxy replica (\S+ on \S+) failed after \d+ restarts",
        "the proxy's server {1} died again and again",
        "its own log (proxy/proxy-N.log in the stage's folder) says why: often memory, or a model vLLM cannot serve",
    ),
    _row(
        "service crash loop",
        r"\w replica (\S+ on \S+) failed after \d+ restarts",
        "a service of the job, {1}, died again and again",
        "its own log (services/NAME/NAME-N.log in the stage's folder) says why",
    ),
    _row(
        "file system trouble",
        r"Stale file handle|Input/output error|Transport endpoint is not connected",
        "the shared file system failed on a node",
        "try again; if it stays on one node, list it in scheduler.exclude and tell your site",
    ),
    _row(
        "too many open files",
        r"Too many open files",
        "a process reached its limit of open files",
        'raise it in the profile, as far as the hard limit: environment.setup = ["ulimit -n $(ulimit -Hn)"]',
    ),
    _row(
        "Ray node lost",
        r"node (\S+): Ray (?:lost it|ended with exit code|was killed)|Ray is not complete: (.*)"
        r"|has missed too many heartbeats|raylet .*(?:died|terminated unexpectedly)|has been marked dead",
        "a node of the Ray cluster was lost or never joined",
        "its log is ray/*/ray-NODE.log in the stage's folder; memory used up is the usual reason. Submit again",
    ),
    _row(
        "NCCL or Gloo",
        r"NCCL (?:error|WARN.*(?:failed|timeout))|nccl(?:System|Internal|Remote|UnhandledCuda)Error"
        r"|Watchdog caught collective operation timeout|gloo/transport|Gloo connectFullMesh failed"
        r"|Connection closed by peer \[",
        "processes on different GPUs or nodes lost their connection (NCCL or Gloo)",
        "set node.interface in the profile to the fast network; health.preflight finds a bad link; look in the other "
        "nodes' logs for what ended first",
    ),
    _row(
        "time limit",
        r"DUE TO TIME LIMIT|not requeued because: timed-out too many times",
        "its time limit passed",
        "submit again, it resumes from its checkpoint; ask for more time (--set STAGE.on.timeout_min=N) or save more "
        "often",
    ),
    _row(
        "permission",
        r"PermissionError: |cannot be read: .*Permission denied",
        "a file or folder may not be written or read",
        "check owner and mode of the path in the line",
    ),
    _row(
        "crash",
        r"Segmentation fault|SIGSEGV|\bSIGBUS\b|Illegal instruction|core dumped",
        "a process crashed in compiled code",
        "the lines before say in which library; versions in requirements/ work together, mixtures may not",
    ),
)

CHILD_DIED = re.compile(
    r"exit code|ended with code|was killed|is gone|died|lost it|is not complete|Error\b|Exception\b"
)
"""A recorded reason that only says that a child process ended: its log may say more."""

ENDS = {
    "PREEMPTED": "a job of higher priority took its place",
    "NODE_FAIL": "a node failed",
    "TIMEOUT": "its time limit passed",
    "BOOT_FAIL": "a node did not start",
}
"""SLURM's states of an attempt that was requeued."""
REQUEUED_BY_US = re.compile(r"told to stop\..*Requeued|preflight: .*; excluded, requeue")
KILLED = ("0:9", "9:0", "137:0")
"""SIGKILL, as sacct shows it for the batch script, for a task under srun, and for a task under a shell."""
TASK_KILLED = re.compile(r"srun: error: \S+: tasks? [\d,\-]+: Killed")
TASK_EXITED = re.compile(r"srun: error: \S+: tasks? [\d,\-]+: Exited with exit code")


def shows_known(line: str) -> bool:
    """Whether a log line shows any of the failures."""
    return any(known.shows.search(line) for known in FAILURES)


@dataclass(frozen=True)
class Wait:
    """reason: the start of SLURM's word. means: continues "STAGE waits: "."""

    reason: str
    means: str
    do: str = "nothing: it starts by itself"


WAITS = (
    Wait(
        "DependencyNeverSatisfied", "a job it depends on failed, so it will never start", "proxygrm submit, once more"
    ),
    Wait("Dependency", "a job it depends on has not ended"),
    Wait("Resources", "it is next in line, the nodes it needs are busy"),
    Wait("Priority", "jobs of higher priority are before it"),
    Wait("BeginTime", "it was requeued, and SLURM holds a requeued job back for two minutes"),
    Wait("JobArrayTaskLimit", "as many elements as the throttle allows are running"),
    Wait("JobHeldUser", "it is held", "scontrol release JOB"),
    Wait("JobHeldAdmin", "an administrator holds it", "ask your site"),
    Wait("launch", "it could not be started and was held", "report the nodes to your site, then scontrol release JOB"),
    Wait("JobHoldMaxRequeue", "it was requeued as often as the site allows and is held", "scontrol release JOB"),
    Wait("PartitionNodeLimit", "it asks for more nodes than the partition allows", "cancel, then fewer --nodes"),
    Wait("PartitionTimeLimit", "it asks for more time than the partition allows", "cancel, then a shorter timeout_min"),
    Wait("PartitionDown", "the partition takes jobs but starts none", "ask your site, or --partition another"),
    Wait("PartitionInactive", "the partition starts no jobs", "ask your site, or --partition another"),
    Wait("QOS", "a limit of the QOS is used up", "wait, ask for less, or --qos another"),
    Wait("Assoc", "a limit of your account is used up", "wait, ask for less, or --account another"),
    Wait("MaxJobs", "you have as many jobs as you may"),
    Wait("InvalidAccount", "the account is not valid here", "cancel, then --account NAME"),
    Wait("InvalidQOS", "the QOS is not valid here", "cancel, then --qos NAME"),
    Wait(
        "BadConstraints",
        "no node fits what it asks for",
        "cancel; compare the profile with `sinfo -o '%N %G %c %m %f'`",
    ),
    Wait("ReqNodeNotAvail", "nodes it needs are down, drained or reserved (maintenance?)"),
    Wait("Nodes_required", "nodes it needs are down, drained or reserved (maintenance?)"),
    Wait("Reservation", "its reservation has not started, or has ended", "scontrol show reservation"),
    Wait("Licenses", "licences it asks for are in use"),
    Wait("Prolog", "the node is being prepared"),
    Wait("None", "the scheduler has not considered it yet"),
)
