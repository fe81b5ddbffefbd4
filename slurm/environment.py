"""How a job gets its Python: modules, a virtual environment, a container. Pure: profile in, shell text out."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from proxygrm.core.errors import UserError
from slurm.profile import Profile

REPOSITORY = Path(__file__).resolve().parent.parent
CONTAINER_PYTHON = "python3"
READ_BY_SRUN = "SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_EXPORT_ENV"
"""Like all of SLURM_CPU_BIND*, SRUN_* and SUBMITIT_*, these are not set by a job's own sbatch: a file that the shell
reads first (BASH_ENV, the user's or the site's) may export them, and srun would obey."""


def setup_lines(profile: Profile, code: Path = REPOSITORY) -> list[str]:
    """Shell lines for a batch script, before Python starts.

    code: the folder whose packages the job runs. They come before installed ones (an editable installation refers to
    the checkout, an image may have none), and before those of the folder the job starts in.
    """
    environment = profile.environment
    lines = [f'unset {READ_BY_SRUN} "${{!SLURM_CPU_BIND@}}" "${{!SRUN_@}}" "${{!SUBMITIT_@}}"']
    if environment.modules:
        # Batch shells are not login shells: where the submitter's shell did not export `module`, it is defined here.
        lines.append("type module > /dev/null 2>&1 || . /etc/profile.d/modules.sh")
        lines += [f"module load {shlex.quote(name)} || exit 1" for name in environment.modules]
    if environment.venv:
        lines.append(f". {shlex.quote(str(Path(environment.venv) / 'bin' / 'activate'))} || exit 1")
    lines += environment.setup
    lines += [f"export {key}={shlex.quote(value)}" for key, value in environment.variables.items()]
    folder = shlex.quote(str(code))
    lines += [
        f'[ -d {folder} ] || {{ echo "the code of this job is missing: "{folder}"; submit again" >&2; exit 1; }}',
        f"export PYTHONPATH={folder}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1",
    ]
    return lines


def path_problem(folder: Path) -> str | None:
    """Why jobs cannot write their logs into this folder, in one line; None when they can.

    SLURM and submitit both expand `%` patterns anywhere in a path, and a backslash turns SLURM's off.
    """
    characters = dict.fromkeys(letter for letter in str(folder) if letter in "%\\" or not letter.isprintable())
    if not characters:
        return None
    names = " and ".join("a control character" if not letter.isprintable() else letter for letter in characters)
    return f"the path {str(folder)!r} contains {names}, which SLURM takes for a pattern; choose another folder"


def python_command(profile: Profile, run_dir: Path) -> str:
    """The shell text after `srun `: the interpreter, run in the profile's container if it has one.

    pyxis is a plug-in of srun, so its options are further options of srun; apptainer is a separate program.
    """
    environment, container = profile.environment, profile.container
    if environment.python:
        python = shlex.quote(environment.python)
    elif environment.venv:
        python = shlex.quote(str(Path(environment.venv) / "bin" / "python"))
    else:
        python = CONTAINER_PYTHON if container.runtime else shlex.quote(sys.executable)
    if not container.runtime:
        return python
    mounts = _mounts(profile, run_dir)
    if container.runtime == "pyxis":
        words = [
            f"--container-image={container.image}",
            f"--container-mounts={','.join(mounts)}",
            f"--container-workdir={REPOSITORY}",
            *container.options,
        ]
    else:
        gpus = ["--nv"] if profile.node.device == "cuda" else []
        binds = [word for mount in mounts for word in ("--bind", mount)]
        words = ["apptainer", "exec", *gpus, *binds, "--pwd", str(REPOSITORY), *container.options, container.image]
    return f"{shlex.join(words)} {python}"


def _mounts(profile: Profile, run_dir: Path) -> list[str]:
    """HOST:INSIDE of the repository, the run folder and the profile's mounts; each once."""
    own = [str(REPOSITORY), str(run_dir.absolute())]
    for path in own:
        if re.search(r"[:,]", path):
            raise UserError(
                f"{path} cannot be mounted into a container: rename the folder that has a colon or a comma",
                code="slurm.path-not-mountable",
                path=path,
            )
    configured = [
        mount if ":/" in mount else re.sub(r"^([^:]+)", r"\1:\1", mount) for mount in profile.container.mounts
    ]
    return list(dict.fromkeys([*(f"{path}:{path}" for path in own), *configured]))
