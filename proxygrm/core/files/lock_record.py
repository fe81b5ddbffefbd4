"""The holder of a lock, as written into the lock file and read by other processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from proxygrm.core.files.owner import name_of

_MAX_COMMAND = 100
_MAX_BYTES = 4096


@dataclass(frozen=True)
class Record:
    """started: the process's start in ticks since boot, because process ids are reused. machine: where pid and started
    are valid: boot and namespaces, since containers of one host may share its name."""

    host: str
    machine: str
    pid: int
    started: int
    since: float
    uid: int
    command: str

    def text(self) -> bytes:
        return (json.dumps(asdict(self)) + "\n").encode()


def of_this_process() -> Record:
    pid = os.getpid()
    started = _started(pid) or 0
    return Record(socket.gethostname(), _machine(), pid, started, time.time(), os.geteuid(), _command())


def read(file: Path) -> Record | None:
    """None: no file, an empty one, or not a record (while it is being written)."""
    try:
        with file.open("rb") as stream:
            row = json.loads(stream.read(_MAX_BYTES))
        return Record(**row) if isinstance(row["pid"], int) and row["pid"] > 0 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def holder_in(file: Path) -> str:
    """The holder of the lock according to this file, as text; "" for none. The file of a process of this machine that
    has ended is removed."""
    for _ in range(100):
        try:
            info = file.lstat()
        except FileNotFoundError:
            return ""
        record = read(file)
        if record is None:
            empty_lock_file = info.st_size == 0 and not file.name.endswith(".held") and ".held-" not in file.name
            return "" if empty_lock_file else f"{describe(None)}; if none of your processes is running, remove {file}"
        if not _ended(record):
            unknown = f"; if it has ended, remove {file}" if record.machine != _machine() else ""
            return describe(record) + unknown
        if _removed(file, record):
            return ""
        time.sleep(0.01)  # another process is about to take it over
    return describe(record)


def describe(record: Record | None) -> str:
    if record is None:
        return "unknown holder"
    command = _printable(record.command)
    host = _printable(record.host)
    return f"`{command}` of {name_of(record.uid)}, process {record.pid} on {host}, for {_age(record.since)}"


def _removed(file: Path, record: Record) -> bool:
    """Only processes of this machine ever remove such a file, and here one at a time: none removes the file of the
    next holder. False while another process does this."""
    with _alone_on_this_machine(file) as alone:
        if alone and read(file) == record:
            file.unlink(missing_ok=True)
        return alone


@contextlib.contextmanager
def _alone_on_this_machine(file: Path) -> Iterator[bool]:
    """A name in Linux's abstract socket namespace: one process has it, and the kernel frees it when that ends."""
    folder = file.parent.stat()
    name = hashlib.sha256(f"{folder.st_dev}:{folder.st_ino}:{file.name}".encode()).hexdigest()
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(f"\0proxygrm-lock-{name}")
        except OSError:
            yield False
        else:
            yield True


def _ended(record: Record) -> bool:
    """Whether the process has certainly ended, as far as this machine can tell."""
    if record.machine != _machine():
        return False
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's, and alive
        pass
    started = _started(record.pid)
    return bool(record.started) and started is not None and started != record.started


def _started(pid: int) -> int | None:
    """None: it cannot be read; 0: it is a zombie (as in a container without init)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, *values = stat[stat.rfind(b")") + 2 :].split()
    threads = int(values[16])
    return 0 if state in (b"Z", b"X") and threads <= 1 else int(values[18])


@cache
def _machine() -> str:
    boot = "?"
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    spaces = []
    for kind in ("pid", "net", "time"):
        try:
            spaces.append(str(Path(f"/proc/self/ns/{kind}").stat().st_ino))
        except OSError:
            spaces.append("?")
    return " ".join([socket.gethostname(), boot, *spaces])


def _command() -> str:
    program = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("python")
    name = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    text = shlex.join([*name.split(" "), *sys.argv[1:]])
    return text if len(text) <= _MAX_COMMAND else text[: _MAX_COMMAND - 3] + "..."


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def _age(since: float) -> str:
    seconds = max(0.0, time.time() - since)
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
