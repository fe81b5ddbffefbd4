"""Which attempt of a stage may write: the newest one, and it alone.

A node that SLURM has given up may be alive, and a process may survive a requeue. So the first act of an attempt is to
write its claim into `STAGE/owner.N.json`, and it reads that file before each of its files gets a name in the stage's
folder, progress and DONE included (`proxygrm.core.files.whole_file.guarded`); every few seconds it reads it anyway,
because a training's own processes do not. An older attempt never takes a stage back: claims are ordered by when their
job was sent, as the ledger records it, then by how often it was requeued, then by when they started.

The file is read before every rename, not once per second: the read takes 24 us beside an fsync of milliseconds, and a
cached answer would let a superseded attempt write for as long as the cache lasts. What remains is the time between the
read and the rename; a DONE record written in it is not believed (`Ledger.done`).
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.engine.run_folder.attempts import Attempt
from jobs.engine.run_folder.records import read_json_again, write_json
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import guarded
from slurm.ray.addresses import node_name

CHECK_EVERY_S = 5.0
TO_END_S = 60.0
"""How long a stage may take to end after SIGTERM."""
SUPERSEDED = 3
"""Exit code of an attempt that has lost its stage; docs/cluster-guide.md."""


class Superseded(UserError):
    """Another attempt owns the stage; this one must write no more."""

    code = "stage.superseded"


@dataclass(frozen=True)
class Claim:
    """An attempt's claim to a stage, as owner.N.json holds it."""

    claim: str
    """Random: tells two processes of one attempt apart. The DONE record repeats it."""
    attempt: Attempt
    sent: float
    """Place of its job among the stage's jobs (`Ledger.order`)."""
    started: float
    """time.time()"""
    host: str
    pid: int

    @classmethod
    def new(cls, sent: float) -> Claim:
        return cls(secrets.token_hex(8), Attempt.current(), sent, time.time(), node_name(), os.getpid())

    @classmethod
    def of(cls, row: Any) -> Claim | None:
        """Back from JSON."""
        if not row:
            return None
        known = {key: row[key] for key in cls.__dataclass_fields__}
        return cls(**{**known, "attempt": Attempt(**row["attempt"])})

    @property
    def order(self) -> tuple[float, int, float, str]:
        return self.sent, self.attempt.restart, self.started, self.claim

    def __str__(self) -> str:
        return f"{self.attempt}, on {self.host}"


class Ownership:
    """One task's view of who owns an element of a stage. Task 0 owns it for all tasks; the others only read."""

    def __init__(self, folder: Path, cell: int, sent: float, rank: int = 0) -> None:
        self.file, self.rank, self.mine = owner_file(folder, cell), rank, Claim.new(sent)
        self._claimed = False
        self._writing = threading.local()

    def claim(self) -> None:
        """Take the stage, unless a newer attempt has it. Raises Superseded."""
        if self.rank:
            self.check()
            return
        self._refuse_newer(self._owner())
        self._write()
        self._claimed = True
        self.check()  # a newer attempt may have claimed it in between

    def check(self) -> None:
        """Raises Superseded when another attempt owns the stage, or when its folder has been moved aside."""
        if getattr(self._writing, "now", False):  # the claim's own rename asks, too
            return
        owner = self._owner()
        if owner is None and not self._claimed:
            return
        if owner is None:
            raise Superseded(
                f"{self.file.parent} no longer belongs to this attempt ({self.mine}): it ends", path=self.file.parent
            )
        if self.rank:
            self._claimed = True  # by its first task, or by an earlier attempt
            if owner.order[:2] > self.mine.order[:2]:
                raise self._lost(owner)
            return
        if owner.claim != self.mine.claim:
            self._refuse_newer(owner)
            self._write()  # an older attempt had read the file before this claim and has written after it

    def lost(self) -> str:
        """Why this attempt must not write, or ""."""
        try:
            self.check()
        except Superseded as error:
            return str(error)
        except UserError:  # the folder cannot be read: the next write will say so
            return ""
        return ""

    @contextmanager
    def ending_when_lost(self, name: str) -> Iterator[None]:
        """Once the stage is lost, an error of the block is not reported: the attempt ends with exit code SUPERSEDED."""
        try:
            yield
        except BaseException as error:
            if reason := self.lost():
                print(f"{name}: {reason}", file=sys.stderr, flush=True)
                raise SystemExit(SUPERSEDED) from error
            raise

    @contextmanager
    def held(self, *folders: Path) -> Iterator[None]:
        """No file of this process gets a name in the folders once the stage is lost; SIGTERM then ends the process."""
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        with ExitStack() as guards:
            for folder in folders:
                guards.enter_context(guarded(folder, self.check))
            watcher.start()
            try:
                yield
            finally:
                stop.set()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(CHECK_EVERY_S):
            if reason := self.lost():
                print(reason, file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)  # as scancel does, so that its child processes end too
                if not stop.wait(TO_END_S):
                    os._exit(SUPERSEDED)
                return

    def _refuse_newer(self, owner: Claim | None) -> None:
        if owner and owner.order > self.mine.order:
            raise self._lost(owner)

    def _lost(self, owner: Claim) -> Superseded:
        return Superseded(
            f"{self.file.parent.name} belongs to a newer attempt now ({owner}): this one ({self.mine}) ends and writes "
            "nothing more",
            path=self.file.parent,
            owner=str(owner),
        )

    def _write(self) -> None:
        self._writing.now = True
        try:
            write_json(self.file, asdict(self.mine))
        finally:
            self._writing.now = False

    def _owner(self) -> Claim | None:
        return Claim.of(read_json_again(self.file))


def owner_file(folder: Path, cell: int) -> Path:
    """folder: of the stage."""
    return folder / f"owner.{cell}.json"
