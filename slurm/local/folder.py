"""The folder of a private cluster: layout, record, lock, and a short path for Unix sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files import lock
from proxygrm.core.files.owner import refuse_foreign
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.files.whole_file import write_text
from slurm.local.binaries import repository
from slurm.local.config import ClusterSpec

_LONGEST_SOCKET_FOLDER = 60  # 107 characters less "/spool/h100-1/h100-1_4294967295.4294967291" and some room
_WAIT_S = 90.0
_NEEDED_MB = 200  # a fresh MariaDB takes 50; SLURM's state and logs follow
_LOCKS = re.compile(r"lock|in-use|\.(lock|in-use)\.held(-[0-9a-f]+)?")
_SUBFOLDERS = ("etc", "run", "log", "state", "spool", "dev")


@dataclass(frozen=True)
class Record:
    """What must be known about a cluster after all its processes have died."""

    id: str
    spec: ClusterSpec
    port: int | None = None
    """First port of its last block."""
    alias: str | None = None
    """Private folder in /tmp with the link `c` to the cluster's folder, where SLURM cannot use its own path."""
    temporary: bool = False
    """Brought up by a command for its own use (`demo`), which takes it down when no other command uses it."""
    host: str | None = None
    """The machine it was last brought up on; None after a clean stop. Home folders may be shared."""


def default_folder() -> Path:
    chosen = os.environ.get("PROXYGRM_CLUSTER_DIR")
    return Path(chosen) if chosen else repository() / ".local" / "cluster"


def resolve(folder: Path | str | None) -> Path:
    return (Path(folder) if folder is not None else default_folder()).expanduser().absolute()


def refuse_foreign_cluster(folder: Path) -> None:
    """UserError for another user's cluster: any other user, also root, would break it."""
    refuse_foreign(folder, "use a cluster folder of your own (--dir, PROXYGRM_CLUSTER_DIR)")


def conf_path(folder: Path) -> Path:
    return folder / "etc" / "slurm.conf"


def read_record(folder: Path) -> Record | None:
    """The record, or None when no cluster was ever created here."""
    path = folder / "cluster.json"
    try:
        data = json.loads(read_user_text(path))
        if data.get("folder", str(folder)) != str(
            folder
        ):  # a copied folder must not take the original's processes for its own
            return new_record(ClusterSpec.from_json(data["spec"]))
        return Record(
            id=data["id"],
            spec=ClusterSpec.from_json(data["spec"]),
            port=data["port"],
            alias=data["alias"],
            host=data.get("host"),
            temporary=data.get("temporary", False),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): remove the folder {folder}", code="cluster.record-damaged", path=path
        ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}",
            code="cluster.record-unreadable",
            path=path,
            reason=error.strerror,
        ) from error


def write_record(folder: Path, record: Record) -> None:
    data = {
        "id": record.id,
        "folder": str(folder),
        "host": record.host,
        "port": record.port,
        "alias": record.alias,
        "temporary": record.temporary,
        "spec": record.spec.to_json(),
    }
    write_text(folder / "cluster.json", json.dumps(data, indent=1) + "\n")


def prepare(folder: Path) -> None:
    """Create the folder, mode 0700 (the database's socket is in it). UserError for a folder with other files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "lock").exists():  # else another `up` may have started: checked under the lock
            refuse_other_files(folder)
        folder.chmod(0o700)
        (folder / "lock").touch()
    except OSError as error:
        raise UserError(
            f"a local cluster cannot use {folder}: {error.strerror}; choose another folder",
            code="cluster.folder-unusable",
            path=folder,
            reason=error.strerror,
        ) from error
    free_mb = shutil.disk_usage(folder).free / 2**20
    if free_mb < _NEEDED_MB:
        raise UserError(
            f"{folder} has {free_mb:.0f} MB free and a cluster needs {_NEEDED_MB}: free some space",
            code="cluster.disk-full",
            path=folder,
            free_mb=int(free_mb),
        )


def refuse_other_files(folder: Path) -> None:
    """UserError where the folder contains files that are not a cluster's."""
    names = [entry.name for entry in folder.iterdir() if not _LOCKS.fullmatch(entry.name)]
    if names and not (folder / "cluster.json").exists():
        raise UserError(
            f"{folder} contains other files and no local cluster: choose a new or empty folder",
            code="cluster.folder-not-empty",
            path=folder,
        )


@contextlib.contextmanager
def locked(folder: Path, seconds: float = 90.0) -> Iterator[None]:
    """Lock the folder; a second `up` or `down` waits here for the first."""
    with lock.held(folder / "lock", f"another command has been busy with {folder} for {seconds:.0f} s", wait_s=seconds):
        yield


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Mark the cluster as used by a command of this user: `unused` yields False meanwhile. A crash ends the mark."""
    refuse_foreign_cluster(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with lock.shared(folder / "in-use", f"{folder} is being taken down", wait_s=_WAIT_S):
        yield


@contextlib.contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Whether no command uses the cluster; if so, none starts to before the block ends."""
    alone = lock.Lock(folder / "in-use")
    free = not alone.acquire()
    try:
        yield free
    finally:
        alone.release()


def new_record(spec: ClusterSpec) -> Record:
    return Record(secrets.token_hex(8), spec)


def needs_alias(folder: Path) -> bool:
    """SLURM allows no special characters in its paths, and the kernel at most 107 in a socket's."""
    plain = re.fullmatch(r"[A-Za-z0-9._/+-]+", str(folder))
    return plain is None or len(str(folder)) > _LONGEST_SOCKET_FOLDER


def base_of(folder: Path, record: Record) -> str:
    return f"{record.alias}/c" if record.alias else str(folder)


def with_alias(folder: Path, record: Record) -> Record:
    """The record with the short path, if this folder needs one: a link in a folder in /tmp only this user may enter."""
    if not needs_alias(folder):
        return replace(record, alias=None)
    if record.alias is not None and _linked(Path(record.alias), folder):
        return record
    alias = tempfile.mkdtemp(prefix="pgrm-", dir="/tmp")  # mode 0700, unpredictable name
    Path(alias, "c").symlink_to(folder)
    return replace(record, alias=alias)


def _linked(alias: Path, folder: Path) -> bool:
    """Create the short path again if /tmp was cleaned; False when another user has that name now."""
    with contextlib.suppress(FileExistsError):
        alias.mkdir(mode=0o700)
    info = alias.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        return False
    with contextlib.suppress(FileExistsError):
        (alias / "c").symlink_to(folder)
    return (alias / "c").is_symlink() and (alias / "c").readlink() == folder


def without_alias(folder: Path, record: Record) -> Record:
    if record.alias is not None:
        with contextlib.suppress(OSError):
            if Path(record.alias, "c").readlink() == folder:
                Path(record.alias, "c").unlink()
                Path(record.alias).rmdir()
    return replace(record, alias=None)


def lay_out(folder: Path, node_names: list[str], gpus: int) -> None:
    """Create sub-folders, the munge key and the links that stand for GPUs; rename log files above 20 MB."""
    for name in [*_SUBFOLDERS, *(f"spool/{node}" for node in node_names)]:
        (folder / name).mkdir(exist_ok=True, mode=0o755)
    for index in range(gpus):
        with contextlib.suppress(FileExistsError):
            (folder / "dev" / f"nvidia{index}").symlink_to("/dev/null")
    key = folder / "etc" / "munge.key"
    if not key.exists() or key.stat().st_size < 32:
        key.unlink(missing_ok=True)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as out:
            out.write(secrets.token_bytes(1024))
    for log in (folder / "log").glob("*.*"):
        if log.suffix != ".old" and log.stat().st_size > 20 * 2**20:
            log.replace(log.with_name(log.name + ".old"))
