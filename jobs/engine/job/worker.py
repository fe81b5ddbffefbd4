"""What runs inside a job: check what the stage needs, run it, check what it made, write DONE last."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from jobs.engine.job import last_save, other_nodes
from jobs.engine.job.memory import MemoryPeak
from jobs.engine.job.own_temp import own_temp
from jobs.engine.job.progress import Progress, silent
from jobs.engine.run_folder import failures
from jobs.engine.run_folder.attempts import Attempt
from jobs.engine.run_folder.code_version import CODE, git_revision
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.run_folder.ownership import Ownership
from jobs.engine.run_folder.records import write_json
from jobs.engine.stage import Stage, StageRun
from jobs.engine.watch import advice, logs
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import sync_tree
from proxygrm.core.runtime import job_log
from slurm import commands, private
from slurm.health.preflight import run as preflight
from slurm.health.preflight import stale
from slurm.profile import Profile

USER_ERROR = 2
"""Exit code of a job that ended with a UserError, as of every command: the user has to change something.
1 is an error in the program, 143 (128 + SIGTERM) an end that the scheduler requested; docs/cluster-guide.md."""
log = logging.getLogger(__name__)


class Terminated(SystemExit):
    """The scheduler told the job to end (scancel, or the end of its grace time)."""


class StageJob:
    """One element of one stage; picklable, because submitit stores it in the run folder.

    `checkpoint` is submitit's hook for the time-limit and preemption signal (SIGUSR2): a training saves, every stage
    resumes from its own files, so the same job is requeued under the same id and whatever waits for it keeps waiting.
    """

    def __init__(
        self,
        stage: Stage,
        run_dir: Path,
        profile: Profile,
        cell: int,
        fingerprint: str,
        sent: float = 0.0,
        recipe: str = "",
    ) -> None:
        """sent: the job's place among those of the stage (`Ledger.order`). recipe: as of `Done`."""
        self.stage, self.run_dir, self.profile = stage, run_dir, profile
        self.cell, self.fingerprint, self.sent, self.recipe = cell, fingerprint, sent, recipe

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        last_save.save(self.stage.name, self.profile.scheduler.signal_before_end_s)
        private.keep_pickles_private()
        return DelayedSubmission(self)

    def __call__(self) -> None:
        rank = int(os.environ.get("SLURM_PROCID", "0"))
        signal.signal(signal.SIGTERM, _terminate)
        private.deny_write_to_others()
        job_log.set_up(self.stage.name, Attempt.current().number, rank)
        print(logs.first_line(self.stage.name, rank, os.environ.get("SLURMD_NODENAME", "")), flush=True)
        owner = Ownership(self.run_dir / self.stage.name, self.cell, self.sent, rank)
        try:
            with owner.ending_when_lost(self.stage.name), own_temp():
                self._run(rank, owner)
        except Exception as error:
            failures.record(self.run_dir / self.stage.name, self.cell, rank, error)
            if not isinstance(error, UserError):
                traceback.print_exc()
                raise
            message = advice.in_full(str(error), self.run_dir)
            print(f"{self.stage.name} failed: {message}", file=sys.stderr, flush=True)
            raise SystemExit(USER_ERROR) from error
        finally:
            private.keep_pickles_private()

    def _run(self, rank: int, owner: Ownership) -> None:
        ledger = Ledger(self.run_dir)
        done = ledger.done(self.stage, self.cell)
        if done and done.fingerprint == self.fingerprint and ledger.failed_check(self.stage) is None:
            log.info("already done, nothing to do")
            return
        owner.claim()
        with owner.held(*filter(None, (owner.file.parent, self.stage.writes))):
            self._work(rank, ledger, owner)

    def _work(self, rank: int, ledger: Ledger, owner: Ownership) -> None:
        self._check_requeues()
        self._check_needs(ledger)
        started, memory = time.time(), MemoryPeak()
        run = self._stage_run(rank)
        run.out.mkdir(parents=True, exist_ok=True)
        private.refuse_planted(run.out)
        if rank == 0:
            write_json(logs.sizes_file(run.out, self.cell), logs.sizes(run.out))
            logs.link_latest(self.run_dir, self.stage, self.cell)
        self._preflight(run)
        with memory:
            self.stage.run(run)
        self._sync(run.out)
        if rank:
            owner.check()
            other_nodes.report_end(run.out, self.cell, rank, memory.peak_mb)
            return
        peaks = [memory.peak_mb, *other_nodes.wait_for_ends(run.out, self.cell, run.nodes)]
        if self.stage.array == 1 and (problem := ledger.failed_check(self.stage)):
            raise UserError(f"it ran to its end, but {problem}", code="stage.bad-output", stage=self.stage.name)
        ledger.write_done(self.stage, self._done(started, max(peaks), owner.mine.claim))

    def _stage_run(self, rank: int) -> StageRun:
        return StageRun(
            stage=self.stage,
            run_dir=self.run_dir,
            profile=self.profile,
            inputs=self.stage.input_paths(self.run_dir),
            progress=Progress(self.run_dir / self.stage.name, self.cell) if rank == 0 else silent,
            cell=self.cell,
            rank=rank,
            nodes=int(os.environ.get("SLURM_NNODES", "1")),
        )

    def _preflight(self, run: StageRun) -> None:
        os.environ[stale.MARK] = self.stage.name
        gpus = self.stage.on.gpus_per_node
        if preflight.required(self.profile, gpus, run.nodes):
            preflight.check_nodes(
                self.profile,
                gpus=gpus,
                rank=run.rank,
                size=run.nodes,
                folder=run.out / "preflight",
                run_dir=self.run_dir,
                stage=self.stage.name,
            )

    def _done(self, started: float, peak_mb: int, claim: str) -> Done:
        return Done(
            stage=self.stage.name,
            fingerprint=self.fingerprint,
            cell=self.cell,
            started=started,
            finished=time.time(),
            job_id=os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "none"),
            nodes=_node_names(),
            peak_memory_mb=peak_mb,
            attempts=Attempt.current().number,
            code=git_revision() or "",
            snapshot=str(CODE.relative_to(self.run_dir)) if CODE.is_relative_to(self.run_dir) else "",
            claim=claim,
            recipe=self.recipe,
        )

    def _sync(self, out: Path) -> None:
        """What was made is on the disk before a record says so; a record that outlives it in a crash would be false."""
        try:
            sync_tree([out / artifact.path for artifact in self.stage.makes])
        except OSError as error:
            raise UserError(
                f"{error.filename or out} is not on the disk: {error.strerror}",
                code="stage.not-synced",
                path=str(error.filename or out),
            ) from error

    def _check_requeues(self) -> None:
        """Without a limit, a stage that takes its node down each time would be requeued for ever."""
        limit = self.profile.scheduler.max_requeues
        if Attempt.current().restart > limit:
            raise UserError(
                f"requeued {limit} times already (scheduler.max_requeues in the profile); `proxygrm why` says what "
                "ended it, `proxygrm submit` resumes it",
                code="stage.too-many-requeues",
                count=limit,
            )

    def _check_needs(self, ledger: Ledger) -> None:
        """`afterok` on an id that SLURM has forgotten starts at once, so the records are checked here again."""
        for parent in self.stage.upstream():
            if reason := ledger.unfinished(parent, parent.fingerprint()):
                raise UserError(
                    f"{parent.name}, which it needs, is not done: {reason}; run `proxygrm submit` again",
                    code="stage.upstream-not-done",
                    stage=parent.name,
                )


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated(128 + signum)


def _node_names() -> list[str]:
    names = os.environ.get("SLURM_JOB_NODELIST", "")
    return commands.host_names(names) or [names]
