"""What a private cluster and its jobs open while they run (listening sockets, files outside their folders), beside the
table in docs/security.md that must name it.

Sampled from /proc, so that it does not matter which language or library opens something.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from slurm.local.folder import conf_path

TABLE = Path(__file__).parents[2] / "docs" / "security.md"
SAMPLE_S = 0.5
NOT_HERE = ("(by hand)", "(GPUs)")
"""Rows of the table that say so are of what the demo does not open."""
EVERY, NODE, LOOPBACK = "every address", "the node's address", "127.0.0.1"
_ACCEPTS = 0x10000  # of /proc/net/unix
_LISTENS = "0A"  # of /proc/net/tcp


_SPAWNED = "from multiprocessing.spawn"
"""A process of multiprocessing before it has a title; which one it is shows in a moment."""
_BY = "spawned by "


@dataclass(frozen=True, order=True)
class Opening:
    """kind: TCP, UDP, socket (of the unix domain) or file. where: in the table's words the address, or the path."""

    kind: str
    program: str
    where: str
    by: str = field(default="", compare=False)
    """The process and its ancestors, for whoever asks where it came from."""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}, {self.program}: {self.by}"


@dataclass(frozen=True)
class Row:
    """One row of the table: programs and paths are patterns."""

    text: str
    programs: tuple[str, ...]
    addresses: frozenset[tuple[str, str]]
    paths: tuple[str, ...]
    opened_here: bool

    def names(self, one: Opening) -> bool:
        if one.kind in ("TCP", "UDP"):
            known = any(fnmatchcase(one.program, pattern) for pattern in self.programs)
            return known and (one.kind, one.where) in self.addresses
        return any(fnmatchcase(one.where, pattern) for pattern in self.paths)


def rows_of_the_table() -> list[Row]:
    section = TABLE.read_text(encoding="utf-8").partition("## Every port and file")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [_row(*row) for row in cells[2:]]


def _row(opened_by: str, where: str, reach: str, proof: str) -> Row:
    found = re.findall(rf"(TCP|UDP), ({EVERY}|{NODE}|{re.escape(LOOPBACK)})", where)
    paths = tuple(path.replace("$TMPDIR", "/tmp") for path in re.findall(r"`([^`]+)`", where) if "/" in path)
    here = not any(mark in opened_by for mark in NOT_HERE)
    assert reach, opened_by
    assert proof, opened_by
    assert bool(found) != bool(paths) or not here, f"{opened_by}: addresses or paths, not {where!r}"
    return Row(opened_by, tuple(re.findall(r"`([^`]+)`", opened_by)), frozenset(found), paths, here)


@dataclass
class Watch:
    """`cluster`: folder of the cluster that is watched, with everything that was started for it and in it.

    `names`: folder -> what the table calls it, the most special first; what is in one called "" is not noted, nor are
    the files in CLUSTER. A file is noted while it is open for writing.
    """

    cluster: Path
    names: dict[str, str]
    found: set[Opening] = field(default_factory=set)
    _parents: dict[int, int] = field(default_factory=dict)
    _started: dict[int, str] = field(default_factory=dict)
    """pid -> when the process that has it was started: numbers are used again."""
    _ours: dict[int, str] = field(default_factory=dict)
    """pid -> the last name it had; "" of one that is not ours."""
    _untitled: dict[int, set[Opening]] = field(default_factory=dict)
    """pid of a spawned process that has no title yet -> what it has opened."""
    _titles: dict[str, str] = field(default_factory=dict)
    """"spawned by PROGRAM" -> the title that such a process took."""
    _nameless: set[Opening] = field(default_factory=set)
    """Of spawned processes that ended before they had a title: each was one of those that its parent spawns."""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        for one in self._nameless.union(*self._untitled.values()):
            self.found.add(replace(one, program=self._titles.get(one.program, one.program)))

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.look()

    def look(self) -> None:
        sockets = _listening()
        for pid in self._our_processes():
            with contextlib.suppress(OSError):
                if not (program := _program(pid)):
                    continue  # it is ending: nobody can say any more which one it was
                if program.startswith(_SPAWNED):
                    program = _BY + self._ours.get(self._parents[pid], "?")
                self._name(pid, program)
                by = self._line(pid)
                for descriptor in os.scandir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        target = os.readlink(descriptor.path)  # noqa: PTH115
                        if target.startswith("socket:["):
                            for kind, where in sockets.get(target[8:-1], ()):
                                self._note(pid, Opening(kind, program, where, by))
                        elif target.startswith("/") and os.lstat(descriptor.path).st_mode & 0o200:
                            self._note(pid, Opening("file", program, target.removesuffix(" (deleted)"), by))

    def _name(self, pid: int, program: str) -> None:
        """A process that has just been spawned takes its title a moment later: what it opened before is its, too."""
        if not program.startswith(_BY):
            if self._ours[pid].startswith(_BY):
                self._titles[self._ours[pid]] = program
            for one in self._untitled.pop(pid, ()):
                self.found.add(replace(one, program=program))
        self._ours[pid] = program

    def _note(self, pid: int, one: Opening) -> None:
        found = self._untitled.setdefault(pid, set()) if one.program.startswith(_BY) else self.found
        if one.kind in ("TCP", "UDP"):
            found.add(one)
            return
        for folder, name in self.names.items():
            if one.where.startswith(f"{folder}/"):
                if name and (one.kind == "socket" or name != "CLUSTER"):
                    found.add(replace(one, where=name + one.where.removeprefix(folder)))
                return
        if one.kind == "socket" or not one.where.startswith(("/dev/", "/proc/", "/memfd:")):
            found.add(one)  # wherever it is, an abstract name included

    def _our_processes(self) -> list[int]:
        started: dict[int, str] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    text = Path(entry.path, "stat").read_text(errors="replace")
                    fields = text[text.rindex(")") + 2 :].split()
                    self._parents[int(entry.name)], started[int(entry.name)] = int(fields[1]), fields[19]
        for pid in [pid for pid, when in self._started.items() if started.get(pid) != when]:
            self._ours.pop(pid, None)
            self._nameless |= self._untitled.pop(pid, set())
        self._started = started
        for pid in sorted(started):
            if not self._ours.get(pid):
                ours = self._ours.get(self._parents[pid]) or self._is_of_the_cluster(pid)
                self._ours[pid] = "?" if ours else ""
        return [pid for pid, ours in self._ours.items() if ours]

    def _line(self, pid: int) -> str:
        line: list[str] = []
        while self._ours.get(pid):
            line.append(f"{pid} {self._ours[pid]}")
            pid = self._parents.get(pid, 0)
        return " < ".join(line)

    def _is_of_the_cluster(self, pid: int) -> bool:
        marks = {f"SLURM_CONF={conf_path(self.cluster)}".encode(), f"PROXYGRM_CLUSTER_DIR={self.cluster}".encode()}
        with contextlib.suppress(OSError):
            return not marks.isdisjoint(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
        return False


def _program(pid: int) -> str:
    """What people call it: a title it gave itself, the module or script that Python runs, or the program's name."""
    words = [word for word in Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0") if word]
    if not words or not Path(words[0]).name.startswith("python"):
        return Path(words[0]).name if words and words[0].startswith("/") else " ".join(words[:1])
    for word, following in zip(words[1:], [*words[2:], ""], strict=True):
        if word in ("-m", "-c"):
            return following[:60]
        if not word.startswith("-"):
            return Path(word).name
    return "python"


def _listening() -> dict[str, list[tuple[str, str]]]:
    """inode -> (kind, where) of every socket of the machine that others can send to."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file, kind in (("tcp", "TCP"), ("tcp6", "TCP"), ("udp", "UDP"), ("udp6", "UDP")):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", file).read_text().splitlines()[1:]:
                words = line.split()
                if (words[3] == _LISTENS) if kind == "TCP" else words[2].endswith(":0000"):
                    found.setdefault(words[9], []).append((kind, _address(words[1].partition(":")[0])))
    for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
        words = line.split(maxsplit=7)
        if len(words) == 8 and (int(words[3], 16) & _ACCEPTS or words[4] == "0002"):
            found.setdefault(words[6], []).append(("socket", words[7]))
    return found


def _address(text: str) -> str:
    """From /proc/net: words of 32 bits in the machine's byte order."""
    packed = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    address = socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)
    address = address.removeprefix("::ffff:")
    return {"::": EVERY, "0.0.0.0": EVERY, "127.0.0.1": LOOPBACK, "::1": LOOPBACK}.get(address, NODE)
