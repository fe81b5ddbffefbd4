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
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from slurm.local.folder import conf_path

TABLE = Path(__file__).parents[2] / "docs" / "security.md"
SAMPLE_S = 0.5
NOT_HERE, AT_TIMES = ("(by hand)", "(GPUs)"), "(at times)"
"""Rows of the table that say so are of what the demo does not open, and of what it opens for a moment or not always."""
EVERY, NODE, LOOPBACK = "every address", "the node's address", "127.0.0.1"
_ACCEPTS = 0x10000  # of /proc/net/unix
_LISTENS = "0A"  # of /proc/net/tcp
_SPAWNED = "from multiprocessing.spawn"
"""A process of multiprocessing before it takes a title."""


@dataclass(frozen=True, order=True)
class Opening:
    """kind: TCP, UDP, socket (of the unix domain) or file. where: in the table's words the address, or the path."""

    kind: str
    where: str
    programs: tuple[str, ...] = ()
    """Each name that the process had: it may open something before it takes its title, or take several."""
    by: str = field(default="", compare=False)
    """The process and its ancestors, for whoever asks where it came from."""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}, {' then '.join(self.programs) or 'without a title'}: {self.by}"


@dataclass
class Process:
    """names: in the order in which it took them. opened: (kind, where) -> the process and its ancestors then."""

    started: str
    """Numbers are used again: a process is its number and when it was started."""
    parent: int = 0
    ours: bool = False
    names: list[str] = field(default_factory=list)
    opened: dict[tuple[str, str], str] = field(default_factory=dict)
    started_by: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the table: programs and paths are patterns."""

    text: str
    programs: tuple[str, ...]
    addresses: frozenset[tuple[str, str]]
    paths: tuple[str, ...]
    may_open: bool
    always_opens: bool

    def names(self, one: Opening) -> bool:
        if one.kind in ("TCP", "UDP"):
            known = any(fnmatchcase(program, pattern) for program in one.programs for pattern in self.programs)
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
    programs = tuple(re.findall(r"`([^`]+)`", opened_by))
    return Row(opened_by, programs, frozenset(found), paths, here, here and AT_TIMES not in opened_by)


@dataclass
class Watch:
    """`cluster`: folder of the cluster that is watched, with everything that was started for it and in it.

    `names`: folder -> what the table calls it, the most special first; what is in one called "" is not noted, nor are
    the files in CLUSTER. A file is noted while it is open for writing.
    """

    cluster: Path
    names: dict[str, str]
    _living: dict[int, Process] = field(default_factory=dict)
    _ended: list[Process] = field(default_factory=list)
    """Of those that were ours."""
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

    def found(self) -> set[Opening]:
        """A spawned process that ended before it had a title was one of those that its parent starts."""
        ours = [one for one in (*self._ended, *self._living.values()) if one.ours]
        titles: dict[str, list[str]] = {}
        for one in ours:
            titles.setdefault(one.started_by, []).extend(one.names)  # "": of those whose parent is not ours
        return {
            Opening(kind, where, tuple(one.names or dict.fromkeys(titles[one.started_by])), by)
            for one in ours
            for (kind, where), by in one.opened.items()
        }

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.look()

    def look(self) -> None:
        sockets = _listening()
        self._meet()
        for pid, process in self._living.items():
            if not process.ours:
                continue
            with contextlib.suppress(OSError):
                if not (program := _program(pid)):
                    continue  # it is ending: nobody can say any more which one it was
                if not process.started_by and (parent := self._living.get(process.parent)) and parent.names:
                    process.started_by = parent.names[-1]
                if program not in process.names and not program.startswith(_SPAWNED):
                    process.names.append(program)
                by = self._line(pid)
                for descriptor in os.scandir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        target = os.readlink(descriptor.path)  # noqa: PTH115
                        if target.startswith("socket:["):
                            for kind, where in sockets.get(target[8:-1], ()):
                                self._note(process, kind, where, by)
                        elif target.startswith("/") and os.lstat(descriptor.path).st_mode & 0o200:
                            self._note(process, "file", target.removesuffix(" (deleted)"), by)

    def _note(self, process: Process, kind: str, where: str, by: str) -> None:
        if kind not in ("TCP", "UDP"):
            for folder, name in self.names.items():
                if where.startswith(f"{folder}/"):
                    if not name or (kind == "file" and name == "CLUSTER"):
                        return
                    where = name + where.removeprefix(folder)
                    break
            else:  # wherever it is, an abstract name included
                if kind == "file" and where.startswith(("/dev/", "/proc/", "/memfd:")):
                    return
        process.opened.setdefault((kind, where), by)

    def _meet(self) -> None:
        """Which processes there are; those that have ended keep what they opened."""
        before, self._living = self._living, {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    text = Path(entry.path, "stat").read_text(errors="replace")
                    fields = text[text.rindex(")") + 2 :].split()
                    process = before.get(int(entry.name))
                    if process is None or process.started != fields[19]:
                        process = Process(fields[19])
                    process.parent = int(fields[1])
                    self._living[int(entry.name)] = process
        self._ended += [one for pid, one in before.items() if one.ours and self._living.get(pid) is not one]
        for pid, process in sorted(self._living.items()):
            parent = self._living.get(process.parent)
            process.ours = process.ours or bool(parent and parent.ours) or self._is_of_the_cluster(pid)

    def _line(self, pid: int) -> str:
        line: list[str] = []
        while (process := self._living.get(pid)) and process.ours:
            line.append(f"{pid} {process.names[-1] if process.names else process.started_by}")
            pid = process.parent
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
