"""What runs inside a job: check what it needs, run the stage, check what it made, write DONE last."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from data_tools.steps.shards import Shard, Step
from jobs.engine import last_save, secrecy
from jobs.engine.own_temp import own_temp
from jobs.engine.run_folder.ledger import CODE, Done, Ledger, git_revision, read_json, write_json
from jobs.engine.run_folder.ownership import Ownership
from jobs.engine.stage import Stage, StageRun
from jobs.engine.watch import advice, logs
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import sync_tree
from slurm import commands, private
from slurm.health.preflight import run as preflight
from slurm.health.preflight import stale
from slurm.health.preflight.bad_nodes import job_name, restarts
from slurm.profile import Profile

MEMORY_SAMPLE_S = 5.0
PROGRESS_WRITE_S = 1.0
ENDED_LOOK_S = 0.2
TO_MEND = 2
"""Exit code of a job that ended with a UserError, as of every command of ours: a person has to change something.
1 is an error in the program, 143 (128 + SIGTERM) an end asked for by the scheduler; docs/cluster-guide.md."""


class Terminated(SystemExit):
    """The scheduler asked the job to end (scancel, or the end of its grace time)."""


class StageJob:
    """One element of one stage; picklable, because submitit stores it in the run folder.

    `checkpoint` is submitit's hook for the time-limit and preemption signal: a training saves, every stage resumes
    from its own files, so the same job is requeued under the same id and whatever waits for it keeps waiting.
    """

    def __init__(
        self, stage: Stage, run_dir: Path, profile: Profile, cell: int, fingerprint: str, sent: float = 0.0
    ) -> None:
        """sent: the job's place among those of the stage (`Ledger.order`)."""
        self.stage, self.run_dir, self.profile = stage, run_dir, profile
        self.cell, self.fingerprint, self.sent = cell, fingerprint, sent

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        last_save.save(self.stage.name, self.profile.scheduler.signal_before_end_s)
        private.pickles_are_mine()
        return DelayedSubmission(self)

    def __call__(self) -> None:
        rank = int(os.environ.get("SLURM_PROCID", "0"))
        signal.signal(signal.SIGTERM, _terminate)
        private.not_for_others_to_write()
        node = os.environ.get("SLURMD_NODENAME", "")
        print(
            f"{self.stage.name}: attempt {restarts() + 1} of job {job_name()}, task {rank} on node {node}", flush=True
        )
        owner = Ownership(self.run_dir / self.stage.name, self.cell, self.sent, rank)
        try:
            with owner.ending_when_lost(self.stage.name), own_temp():
                self._run(rank, owner)
        except BaseException as error:
            self._tell(rank, error)
            raise
        finally:
            private.pickles_are_mine()

    def _tell(self, rank: int, error: BaseException) -> None:
        """Record and print why the attempt failed; raises SystemExit for what a person has to change."""
        if isinstance(error, UserError):
            self._failed(rank, str(error))
            said = advice.in_full(str(error), self.run_dir)
            print(f"{self.stage.name} failed: {said}", file=sys.stderr, flush=True)
            raise SystemExit(TO_MEND) from error
        if isinstance(error, Exception):
            self._failed(rank, f"{type(error).__name__}: {error}")
            traceback.print_exc()

    def _run(self, rank: int, owner: Ownership) -> None:
        ledger = Ledger(self.run_dir)
        mine = ledger.done(self.stage, self.cell)
        if mine and mine.fingerprint == self.fingerprint and ledger.failed_check(self.stage) is None:
            print(f"{self.stage.name}: already done, nothing to do", flush=True)
            return
        owner.claim()
        with owner.held(owner.file.parent):
            self._work(rank, ledger, owner)

    def _work(self, rank: int, ledger: Ledger, owner: Ownership) -> None:
        self._check_requeues()
        self._check_needs(ledger)
        started, memory = time.time(), MemoryPeak()
        run = StageRun(
            stage=self.stage,
            run_dir=self.run_dir,
            profile=self.profile,
            inputs=self.stage.input_paths(self.run_dir),
            progress=Progress(self.run_dir / self.stage.name, self.cell) if rank == 0 else _silent,
            cell=self.cell,
            rank=rank,
            nodes=int(os.environ.get("SLURM_NNODES", "1")),
        )
        run.out.mkdir(parents=True, exist_ok=True)
        private.refuse_planted(run.out)
        if rank == 0:
            write_json(logs.sizes_file(run.out, self.cell), logs.sizes(run.out))
            logs.link_latest(self.run_dir, self.stage, self.cell)
        os.environ[stale.MARK] = self.stage.name
        if preflight.wanted(self.profile, self.stage.on.gpus_per_node, run.nodes):
            preflight.check_nodes(
                self.profile,
                gpus=self.stage.on.gpus_per_node,
                rank=rank,
                size=run.nodes,
                folder=run.out / "preflight",
                run_dir=self.run_dir,
                stage=self.stage.name,
            )
        with memory:
            self.stage.run(run)
        self._sync(run.out)
        ended = Ended(run.out, self.cell)
        if rank:
            owner.check()
            ended.tell(rank, memory.peak_mb)
            return
        peaks = [memory.peak_mb, *ended.of_others(run.nodes)]
        if self.stage.array == 1 and (problem := ledger.failed_check(self.stage)):
            raise UserError(f"it ran to its end, but {problem}")
        ledger.write_done(
            self.stage,
            Done(
                stage=self.stage.name,
                fingerprint=self.fingerprint,
                cell=self.cell,
                started=started,
                finished=time.time(),
                job_id=os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "none"),
                nodes=_node_names(),
                peak_memory_mb=max(peaks),
                attempts=1 + restarts(),
                code=git_revision() or "",
                snapshot=str(CODE.relative_to(self.run_dir)) if CODE.is_relative_to(self.run_dir) else "",
                attempt=owner.mine.attempt,
            ),
        )

    def _sync(self, out: Path) -> None:
        """What was made is on the disk before a record says so; a record that outlives it in a crash would be false."""
        try:
            sync_tree([out / artifact.path for artifact in self.stage.makes])
        except OSError as error:
            raise UserError(f"{error.filename or out} is not on the disk: {error.strerror}") from error

    def _check_requeues(self) -> None:
        """Without an end, a stage that takes its node down each time would go round for ever."""
        most = self.profile.scheduler.max_requeues
        if restarts() > most:
            raise UserError(
                f"requeued {most} times already (scheduler.max_requeues in the profile); `proxygrm why` says what "
                "ended it, `proxygrm submit` goes on from where it is"
            )

    def _check_needs(self, ledger: Ledger) -> None:
        """`afterok` on an id that SLURM has forgotten starts at once, so the records are checked here again."""
        for parent in self.stage.upstream():
            if why := ledger.unfinished(parent, parent.fingerprint()):
                raise UserError(f"{parent.name}, which it needs, is not done: {why}; run `proxygrm submit` again")

    def _failed(self, rank: int, reason: str) -> None:
        """The first failure of an attempt stays; that of an earlier attempt is replaced."""
        path = self.run_dir / self.stage.name / f"FAILED.{self.cell}.json"
        node, attempt = os.environ.get("SLURMD_NODENAME", ""), [job_name(), restarts() + 1]
        before = read_json(path)
        if before is None or before.get("attempt") != attempt:
            write_json(
                path,
                {
                    "reason": secrecy.masked_words(reason),
                    "node": node,
                    "rank": rank,
                    "time": time.time(),
                    "attempt": attempt,
                },
            )


class Ended:
    """How node 0 learns that the stage has ended on the other nodes, before it checks what they made.

    A node that fails instead ends the whole job (srun's --kill-on-bad-exit), so waiting needs no deadline.
    """

    def __init__(self, folder: Path, cell: int) -> None:
        attempt = (os.environ.get("SLURM_JOB_ID", "none"), os.environ.get("SLURM_RESTART_COUNT", "0"))
        self.folder, self.cell, self.attempt = folder, cell, list(attempt)

    def _path(self, rank: int) -> Path:
        return self.folder / f".ended.{self.cell}.{rank}.json"

    def tell(self, rank: int, peak_mb: int) -> None:
        write_json(self._path(rank), {"attempt": self.attempt, "peak_memory_mb": peak_mb})

    def of_others(self, nodes: int) -> list[int]:
        """Peak memory of nodes 1 and up, MB, once all of them have ended."""
        peaks = []
        for rank in range(1, nodes):
            while (row := read_json(self._path(rank))) is None or row["attempt"] != self.attempt:
                time.sleep(ENDED_LOOK_S)
            self._path(rank).unlink()
            peaks.append(row["peak_memory_mb"])
        return peaks


class Progress:
    """Writes `progress.json` for `proxygrm status`, at most once a second, and a line into the job's log."""

    def __init__(self, folder: Path, cell: int) -> None:
        self.path = folder / f"progress.{cell}.json"
        self.written = 0.0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.time()
        if now - self.written < PROGRESS_WRITE_S and done < total:
            return
        self.written = now
        write_json(self.path, {"done": done, "total": total, "note": note, "time": now})
        print(f"[{time.strftime('%H:%M:%S')}] {done}/{total} {note}", flush=True)


def _silent(done: int, total: int, note: str = "") -> None:
    """Ranks other than 0 report nothing."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated(128 + signum)


def _node_names() -> list[str]:
    names = os.environ.get("SLURM_JOB_NODELIST", "")
    return commands.host_names(names) or [names]


class MemoryPeak:
    """Peak of the proportional set size of this process and its descendants on this node, in MB (sampled)."""

    def __init__(self) -> None:
        self.peak_mb = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        while True:
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue  # ended between listing and reading
            self.peak_mb = max(self.peak_mb, total >> 20)
            if self._stop.wait(MEMORY_SAMPLE_S):
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=MEMORY_SAMPLE_S)


class StepJob:
    """One shard of a data step, or (shard None) the merge of `shards` of them; requeued like a StageJob."""

    def __init__(self, step: Step, shard: Shard | None, shards: int = 0, sent: float = 0.0) -> None:
        """sent: as of a StageJob."""
        self.step, self.shard, self.shards, self.sent = step, shard, shards, sent

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        private.pickles_are_mine()
        return DelayedSubmission(self)

    def __call__(self) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        own = self.step.out / ".jobs" / ("merge" if self.shard is None else f"of-{self.shard.count}")
        owner = Ownership(own, self.shard.index if self.shard else 0, self.sent)
        try:
            with owner.ending_when_lost(self.step.name):
                owner.claim()
                with owner.held(self.step.out), own_temp():
                    self._work()
        except UserError as error:
            print(f"{self.step.name} failed: {error}", file=sys.stderr, flush=True)
            raise
        finally:
            private.pickles_are_mine()

    def _work(self) -> None:
        if self.shard is not None:
            self.step.run_one(self.shard)
        elif self.step.finished() is None:
            self.step.finish(self.shards)
