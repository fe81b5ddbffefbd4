"""Which attempt of a stage may write: the newest one, and it alone.

A node that SLURM has given up may be alive, and a process may survive a requeue. So the first act of an attempt is to
put its name into `STAGE/owner.N.json`, and nothing of it gets a name in the stage's folder, progress and DONE included,
before it has looked that its own still stands there (`proxygrm.core.files.whole_file.guarded`); every few seconds it
looks anyway, because a training's own processes ask nobody. An older attempt never takes a stage back: attempts are
ordered by when their job was sent, as the ledger has it, then by how often it was requeued, then by when they began.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.engine.run_folder.ledger import owner_file, read_json, write_json
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import guarded
from slurm.health.preflight.bad_nodes import job_name, restarts
from slurm.ray.addresses import node_name

LOOK_S = 5.0
TO_END_S = 60.0
"""What a stage has to end in once it was told to."""
SUPERSEDED = 3
"""Exit code of an attempt that has lost its stage; docs/cluster-guide.md."""
READ_AGAIN_S = 0.2


class Superseded(UserError):
    """Another attempt owns the stage; this one must write no more."""


@dataclass(frozen=True)
class Attempt:
    """attempt: random. sent: place of its job among the stage's jobs. begun: time.time()."""

    attempt: str
    sent: float
    restart: int
    begun: float
    job: str
    host: str
    pid: int

    @property
    def order(self) -> tuple[float, int, float, str]:
        return self.sent, self.restart, self.begun, self.attempt

    def __str__(self) -> str:
        return f"job {self.job}, attempt {self.restart + 1}, on {self.host}"


def this_attempt(sent: float) -> Attempt:
    """sent: as `Attempt` has it."""
    return Attempt(
        attempt=secrets.token_hex(8),
        sent=sent,
        restart=restarts(),
        begun=time.time(),
        job=job_name(),
        host=node_name(),
        pid=os.getpid(),
    )


class Ownership:
    """One task's view of who owns an element of a stage. Task 0 owns it for all; the others only look."""

    def __init__(self, folder: Path, cell: int, sent: float, rank: int = 0) -> None:
        self.file, self.rank, self.mine = owner_file(folder, cell), rank, this_attempt(sent)
        self._claimed = False

    def claim(self) -> None:
        """Take the stage, unless a newer attempt has it. Raises Superseded."""
        if self.rank:
            self.check()
            return
        self._refuse_newer(self._owner())
        self._write()
        self._claimed = True
        self.check()  # a newer one may have come in between

    def check(self) -> None:
        """Raises Superseded when another attempt owns the stage, or when its folder has been moved aside."""
        owner = self._owner()
        if owner is None and not self._claimed:
            return
        if owner is None:
            raise Superseded(f"{self.file.parent} is no longer that of this attempt ({self.mine}): it ends")
        if self.rank:
            self._claimed = True  # its first task has it, or an attempt before
            if (owner.sent, owner.restart) > (self.mine.sent, self.mine.restart):
                raise self._lost(owner)
            return
        if owner.attempt != self.mine.attempt:
            self._refuse_newer(owner)
            self._write()  # an older one, which had looked before this one came, has written after it

    def lost(self) -> str:
        """Why this attempt must not write, or ""."""
        try:
            self.check()
        except Superseded as error:
            return str(error)
        except UserError:  # the folder cannot be read: whatever is to be written will say so
            return ""
        return ""

    @contextmanager
    def ending_when_lost(self, name: str) -> Iterator[None]:
        """Once the stage is lost, the block has nothing to say any more, whatever it fails on: it ends so."""
        try:
            yield
        except BaseException as error:
            if why := self.lost():
                print(f"{name}: {why}", file=sys.stderr, flush=True)
                raise SystemExit(SUPERSEDED) from error
            raise

    @contextmanager
    def held(self, folder: Path) -> Iterator[None]:
        """Nothing of this process gets a name in `folder` once the stage is lost, and then it is told to end."""
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        with guarded(folder, self.check):
            watcher.start()
            try:
                yield
            finally:
                stop.set()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_S):
            if why := self.lost():
                print(why, file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)  # as scancel would: what it has started ends with it
                if not stop.wait(TO_END_S):
                    os._exit(SUPERSEDED)
                return

    def _refuse_newer(self, owner: Attempt | None) -> None:
        if owner and owner.order > self.mine.order:
            raise self._lost(owner)

    def _lost(self, owner: Attempt) -> Superseded:
        return Superseded(
            f"{self.file.parent.name} belongs to a newer attempt now ({owner}): this one ({self.mine}) ends and writes "
            "nothing more"
        )

    def _write(self) -> None:
        write_json(self.file, asdict(self.mine))

    def _owner(self) -> Attempt | None:
        return _attempt(read_json_again(self.file))


def read_json_again(path: Path, times: int = 5) -> Any | None:
    """As `read_json`; a shared file system may say "stale handle" of a file that is being replaced."""
    for _ in range(times - 1):
        try:
            return read_json(path)
        except UserError:
            time.sleep(READ_AGAIN_S)
    return read_json(path)


def _attempt(row: Any) -> Attempt | None:
    known = Attempt.__dataclass_fields__
    return Attempt(**{key: value for key, value in row.items() if key in known}) if row else None
