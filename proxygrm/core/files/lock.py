"""Lock files: one process at a time, on every file system a run may be on. Standard library only.

The lock is `flock`; the holder's name is in the lock file, for those who wait. Where the file system has no flock
(Lustre without `-o flock`) a second file, `.NAME.held`, is created exclusively instead. Both kinds of holder write
their own file first and check the other's after that, so that a host with flock and one without never both hold the
same lock; at worst both back off.

The lock file of a killed process is taken over on the host it ran on, where one can see that it has ended. Nothing is
known about a process of another host: the message then says what to remove. (`filelock.SoftFileLock` takes over by an
exchange of two names, which Lustre and NFS refuse: a killed submit would block the run for good.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files import lock_record
from proxygrm.core.files.lock_record import Record

_NO_FLOCK = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL})
"""Errors of flock where it is not supported; exclusive creation is correct there in any case."""
_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
_LOG_AFTER_S = 10.0
_POLL_S = (0.01, 0.5)
log = logging.getLogger(__name__)


def held(path: Path, busy: str, remedy: str = "", wait_s: float = 0.0) -> contextlib.AbstractContextManager[None]:
    """Hold the lock file `path` exclusively. wait_s: how long to wait; the current holder is logged after 10 s.

    Raises UserError (file.locked) with `busy` (for example "another submit is working in RUN"), the holder, `remedy`.
    """
    return _holding(path, busy, remedy, wait_s, shared=False)


def shared(path: Path, busy: str, wait_s: float = 0.0) -> contextlib.AbstractContextManager[None]:
    """As `held`, but shared: several processes may share it while none holds it alone."""
    return _holding(path, busy, "", wait_s, shared=True)


@contextlib.contextmanager
def _holding(path: Path, busy: str, remedy: str, wait_s: float, shared: bool) -> Iterator[None]:
    lock = Lock(path)
    try:
        holder = _acquire(lock, busy, wait_s, shared)
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror or error}", code="file.cannot-lock", path=path) from error
    if holder:
        raise UserError(f"{busy} ({holder}){'; ' * bool(remedy)}{remedy}", code="file.locked", path=path, holder=holder)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: Lock, busy: str, wait_s: float, shared: bool) -> str:
    """ "" when the lock is held, else its holder after `wait_s`."""
    start = time.monotonic()
    pause, logged = _POLL_S[0], False
    while (holder := lock.acquire(shared)) and (waited := time.monotonic() - start) < wait_s:
        if not logged and waited > _LOG_AFTER_S:
            log.warning("waiting: %s (%s)", busy, holder)
            logged = True
        time.sleep(min(pause, wait_s - waited if wait_s < math.inf else pause))
        pause = min(2 * pause, _POLL_S[1])
    return holder


class Lock:
    """A lock file, acquired without waiting. For `with` blocks see `held` and `shared`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marker = path.with_name(f".{path.name.lstrip('.')}.held")
        self._file: int | None = None
        self._pid = 0
        self._own_marker: tuple[Path, Record] | None = None

    def acquire(self, shared: bool = False) -> str:
        """ "" when it is held now, else a description of its holder. Raises OSError if no file can be created."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno in _TAKEN:
                    return lock_record.describe(lock_record.read(self.path))
                if error.errno in _NO_FLOCK:
                    return self._acquire_shared_marker() if shared else self._acquire_marker()
                raise
            if _is_at(self.path, file):  # otherwise its last holder has removed it meanwhile
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
        """Release the lock and remove its files, unless others share it."""
        if self._own_marker is not None:
            file, record = self._own_marker
            self._own_marker = None
            if record.pid == os.getpid() and lock_record.read(file) == record:  # a child inherits it, and may end first
                file.unlink(missing_ok=True)
        if self._file is not None:
            descriptor, self._file = self._file, None
            with contextlib.suppress(OSError):
                if self._pid == os.getpid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while others share it
                    if _is_at(self.path, descriptor):
                        self.path.unlink()
            os.close(descriptor)

    def _acquire_marker(self) -> str:
        while not self._create(self.marker):
            if holder := self._others_marker():
                return holder
        holder = lock_record.holder_in(self.path)
        for file in self.path.parent.glob(f"{self.marker.name}-*"):
            holder = holder or lock_record.holder_in(file)
        if holder:
            self.release()
        return holder

    def _acquire_shared_marker(self) -> str:
        self._create(self.marker.with_name(f"{self.marker.name}-{secrets.token_hex(8)}"))
        holder = self._others_marker() or lock_record.holder_in(self.path)
        if holder:
            self.release()
        return holder

    def _others_marker(self) -> str:
        """The holder without flock; "" for none (or for a process that has ended)."""
        if self._own_marker is not None and self._own_marker[0] == self.marker:
            return ""
        return lock_record.holder_in(self.marker)

    def _create(self, marker: Path) -> bool:
        record = lock_record.of_this_process()
        try:
            file = os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        try:
            os.write(file, record.text())
            os.fsync(file)
        except OSError:  # a full disk: an empty marker would block everyone
            marker.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self._own_marker = marker, record
        return True


def flock_missing(folder: Path) -> str:
    """The system's error when flock is used on a file of the folder; "" if it works."""
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
