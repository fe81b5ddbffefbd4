"""A private cluster that two users use, and what the second one needs to work on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurm import local

NOBODY = 65534


@dataclass(frozen=True)
class SecondUser:
    folder: Path
    """The second user's own; both users may enter its parent."""
    python: Path
    environment: dict[str, str]

    def do(self, work: Callable[[], None]) -> None:
        """In a process of the second user's. What it prints is shown when it fails."""
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.dup2(said.fileno(), 1)
                    os.dup2(said.fileno(), 2)
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                    os.environ.update(self.environment)
                    sys.executable = str(self.python)
                    os.chdir(self.folder)
                    work()
                    status = 0
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            _, status = os.waitpid(pid, 0)
            said.seek(0)
            assert status == 0, said.read().decode(errors="replace")


@contextmanager
def two_users(cluster: local.ClusterSpec | None = None) -> Iterator[tuple[Path, SecondUser]]:
    """(the first user's folder, the second user) on a cluster of their own. The caller is root.

    A private cluster is its owner's alone; this one is opened to others, as a site's is.
    """
    root = Path(tempfile.mkdtemp(prefix="pgtwo-", dir="/tmp"))
    root.chmod(0o755)
    folder = root / "cluster"
    try:
        first, second = root / "first", root / "second"
        first.mkdir(mode=0o700)
        second.mkdir(mode=0o700)
        os.chown(second, NOBODY, NOBODY)
        local.up(folder, spec=cluster)
        folder.chmod(0o711)
        python = python_for_all(root)
        environment = {**local.env(folder), "HOME": str(second), "USER": "nobody", "LOGNAME": "nobody"}
        if python != Path(sys.executable):  # its own library would else be looked for in the closed home
            found = filter(None, [str(root / "python" / "lib"), environment.get("LD_LIBRARY_PATH")])
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(found)
        yield first, SecondUser(second, python, environment)
    finally:
        local.down(folder)
        shutil.rmtree(root, ignore_errors=True)


def python_for_all(folder: Path) -> Path:
    """This Python, or where it lies in a home that is closed to others, the same one by hard links in `folder`."""
    if runs_for_nobody(Path(sys.executable)):
        return Path(sys.executable)
    base = folder / "python"
    left_out = shutil.ignore_patterns("test", "site-packages", "include")
    shutil.copytree(sys.base_prefix, base, symlinks=True, copy_function=_link, ignore=left_out)
    environment = folder / "venv"
    (environment / "bin").mkdir(parents=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (environment / "bin" / "python").symlink_to(base / "bin" / version)
    (environment / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\n")
    packages = environment / "lib" / version / "site-packages"
    packages.parent.mkdir(parents=True)
    packages.symlink_to(Path(sys.prefix) / "lib" / version / "site-packages")
    return environment / "bin" / "python"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def runs_for_nobody(python: Path) -> bool:
    try:
        done = subprocess.run([python, "-c", "import ssl, ray"], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/",
                              capture_output=True, check=False)  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0
