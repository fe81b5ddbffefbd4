"""One process at a time, on every file system a run may live on. Standard library only and light.

`flock` is what holds; its holder's name stands in the lock file, for those who wait. Where the file system has no
flock (Lustre without `-o flock`) a second file, `.NAME.held`, is created exclusively instead. Both kinds of holder
write their own file first and look at the other's after that, so that one host with flock and one without never both
hold the same lock; at worst both step back.

A lock file whose process was killed is taken over on the host it ran on, where one can see that it is gone. About a
process of another host nothing can be known: the message then says what to remove. (`filelock.SoftFileLock` takes
over by an exchange of two names, which Lustre and NFS refuse: a killed submit would bar the run for good.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files import lock_record
from proxygrm.core.files.lock_record import Record

_NO_FLOCK = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL})
"""What flock answers where there is none; exclusive creation is right there in any case."""
_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
_SAY_AFTER_S = 10.0
_POLL_S = (0.01, 0.5)


def held(path: Path, busy: str, remedy: str = "", wait_s: float = 0.0) -> contextlib.AbstractContextManager[None]:
    """Hold the lock file `path` alone. wait_s: how long to wait for another holder, who is named when that is long.

    UserError when it cannot be had: `busy` (for example "another submit is working in RUN"), the holder, `remedy`.
    """
    return _holding(path, busy, remedy, wait_s, shared=False)


def shared(path: Path, busy: str, wait_s: float = 0.0) -> contextlib.AbstractContextManager[None]:
    """As `held`, but together with others who share it: they all keep out who wants it alone."""
    return _holding(path, busy, "", wait_s, shared=True)


@contextlib.contextmanager
def _holding(path: Path, busy: str, remedy: str, wait_s: float, shared: bool) -> Iterator[None]:
    lock = Lock(path)
    try:
        holder = _waited(lock, busy, wait_s, shared)
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror or error}") from error
    if holder:
        raise UserError(f"{busy} ({holder}){'; ' * bool(remedy)}{remedy}")
    try:
        yield
    finally:
        lock.release()


def _waited(lock: Lock, busy: str, wait_s: float, shared: bool) -> str:
    begun = time.monotonic()
    pause, said = _POLL_S[0], False
    while (holder := lock.acquire(shared)) and (waited := time.monotonic() - begun) < wait_s:
        if not said and waited > _SAY_AFTER_S:
            print(f"waiting: {busy} ({holder})", file=sys.stderr, flush=True)
            said = True
        time.sleep(min(pause, wait_s - waited if wait_s < math.inf else pause))
        pause = min(2 * pause, _POLL_S[1])
    return holder


class Lock:
    """A lock file that is tried without waiting. For blocks see `held` and `shared`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marker = path.with_name(f".{path.name.lstrip('.')}.held")
        self._file: int | None = None
        self._pid = 0
        self._mine: tuple[Path, Record] | None = None

    def acquire(self, shared: bool = False) -> str:
        """ "" when it is held from now on, else who holds it, in words. OSError where no file can be made."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno in _TAKEN:
                    return lock_record.describe(lock_record.read(self.path))
                if error.errno in _NO_FLOCK:
                    return self._shared_without() if shared else self._alone_without()
                raise
            if _is_at(self.path, file):  # else its last holder has removed it meanwhile
                break
            os.close(file)
        self._file, self._pid = file, os.getpid()
        if not shared:
            os.ftruncate(file, 0)
            os.pwrite(file, lock_record.of_this_process().text(), 0)
        holder = self._others_marker()
        if holder:
            self.release()
        return holder

    def release(self) -> None:
        """Leaves no file behind, except for others who share it."""
        if self._mine is not None:
            file, record = self._mine
            self._mine = None
            if record.pid == os.getpid() and lock_record.read(file) == record:  # a child inherits it, and ends earlier
                file.unlink(missing_ok=True)
        if self._file is not None:
            file_, self._file = self._file, None
            with contextlib.suppress(OSError):
                if self._pid == os.getpid():
                    fcntl.flock(file_, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not while others share it
                    if _is_at(self.path, file_):
                        self.path.unlink()
            os.close(file_)

    def _alone_without(self) -> str:
        while not self._created(self.marker):
            if holder := self._others_marker():
                return holder
        holder = lock_record.standing(self.path)
        for file in self.path.parent.glob(f"{self.marker.name}-*"):
            holder = holder or lock_record.standing(file)
        if holder:
            self.release()
        return holder

    def _shared_without(self) -> str:
        self._created(self.marker.with_name(f"{self.marker.name}-{secrets.token_hex(8)}"))
        holder = self._others_marker() or lock_record.standing(self.path)
        if holder:
            self.release()
        return holder

    def _others_marker(self) -> str:
        """Who holds it without flock, in words; "" for nobody (and for a process that is gone)."""
        if self._mine is not None and self._mine[0] == self.marker:
            return ""
        return lock_record.standing(self.marker)

    def _created(self, marker: Path) -> bool:
        record = lock_record.of_this_process()
        try:
            file = os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        try:
            os.write(file, record.text())
            os.fsync(file)
        except OSError:  # a full disk: an empty marker would bar everybody
            marker.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self._mine = marker, record
        return True


def flock_missing(folder: Path) -> str:
    """Why flock cannot be used on files of the folder, in the system's words; "" where it can."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".lock-") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
