"""Where SLURM's programs are: installed on this machine, or unpacked by `packages.sh` under .local/debian."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.errors import UserError

PROGRAMS = (
    *("slurmctld", "slurmd", "slurmstepd", "slurmdbd", "munged", "munge"),
    *("mariadbd", "mariadb-install-db", "my_print_defaults"),
    *("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr"),
)
_SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]


@dataclass(frozen=True)
class Programs:
    """Absolute paths of the programs. prefix: the unpacked tree, None for programs installed on the machine."""

    paths: dict[str, str]
    prefix: Path | None

    def __getitem__(self, name: str) -> str:
        return self.paths[name]

    @property
    def plugin_dir(self) -> str | None:
        if self.prefix is None:
            return None
        plugins = sorted(self.prefix.glob("usr/lib/*/slurm*/auth_munge.so"))
        if not plugins:
            raise UserError(
                f"{self.prefix} contains no SLURM plug-ins: remove it and run `make setup`",
                code="cluster.no-plugins",
                path=self.prefix,
            )
        return str(plugins[0].parent)

    @property
    def folders(self) -> list[str]:
        """Folders of the programs for PATH, in order, without duplicates."""
        return list(dict.fromkeys(str(Path(path).parent) for path in self.paths.values()))

    def library_path(self) -> str | None:
        if self.prefix is None or self.plugin_dir is None:
            return None
        triplet = Path(self.plugin_dir).parent.name
        return f"{self.prefix}/usr/lib/{triplet}:{self.prefix}/lib/{triplet}:{self.plugin_dir}"


def repository() -> Path:
    return Path(__file__).resolve().parents[2]


def find_programs() -> Programs:
    """The machine's own programs when all are installed, else the unpacked ones.

    PROXYGRM_FORCE_UNPACK=1 forces the unpacked ones. UserError names what is missing.
    """
    missing: list[str] = []
    if os.environ.get("PROXYGRM_FORCE_UNPACK", "") in ("", "0"):
        search = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_FOLDERS])
        installed = {name: shutil.which(name, path=search) for name in PROGRAMS}
        missing = [name for name, path in installed.items() if path is None]
        if not missing:
            return Programs({name: path for name, path in installed.items() if path}, None)
    prefix = repository() / ".local" / "debian"
    search = os.pathsep.join([str(prefix / "usr/sbin"), str(prefix / "usr/bin")])
    unpacked = {name: shutil.which(name, path=search) for name in PROGRAMS}
    if all(unpacked.values()):
        return Programs({name: path for name, path in unpacked.items() if path}, prefix)
    missing = missing or [name for name, path in unpacked.items() if path is None]
    listed = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
    raise UserError(
        f"no complete SLURM on this machine (missing: {listed}): run `make setup`",
        code="cluster.slurm-incomplete",
        missing=missing,
    )
