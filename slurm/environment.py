"""How a job gets its Python: modules, a virtual environment, a container. Pure: profile in, shell words out."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from proxygrm.core.errors import UserError
from slurm.profile import Profile

REPOSITORY = Path(__file__).resolve().parent.parent
CONTAINER_PYTHON = "python3"
SPOKEN_TO_SRUN = "SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_EXPORT_ENV"
"""What a job's own sbatch does not set, as all of SLURM_CPU_BIND*, SRUN_* and SUBMITIT_*: a file that the shell reads
first (BASH_ENV, the user's or the site's) may export it, and srun would obey."""


def setup_lines(profile: Profile, code: Path = REPOSITORY) -> list[str]:
    """Shell lines for a batch script, before anything of ours starts.

    code: the folder whose packages the job runs. They come before what is installed (an editable installation leads to
    the checkout, an image may have none), and before those of the folder the job starts in.
    """
    environment = profile.environment
    lines = [f'unset {SPOKEN_TO_SRUN} "${{!SLURM_CPU_BIND@}}" "${{!SRUN_@}}" "${{!SUBMITIT_@}}"']
    if environment.modules:
        # Batch shells are no login shells: where the submitter's shell did not export `module`, it is read here.
        lines.append("type module > /dev/null 2>&1 || . /etc/profile.d/modules.sh")
        lines += [f"module load {shlex.quote(name)} || exit 1" for name in environment.modules]
    if environment.venv:
        lines.append(f". {shlex.quote(str(Path(environment.venv) / 'bin' / 'activate'))} || exit 1")
    lines += environment.setup
    lines += [f"export {key}={shlex.quote(value)}" for key, value in environment.variables.items()]
    folder = shlex.quote(str(code))
    lines += [
        f'[ -d {folder} ] || {{ echo "the code of this job is gone: "{folder}"; submit again" >&2; exit 1; }}',
        f"export PYTHONPATH={folder}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1",
    ]
    return lines


def path_problem(folder: Path) -> str | None:
    """Why no job can have its logs in this folder, in one line; None when it can.

    SLURM and submitit both fill in `%` patterns anywhere in a path, and a backslash turns SLURM's off.
    """
    bad = dict.fromkeys(letter for letter in str(folder) if letter in "%\\" or not letter.isprintable())
    if not bad:
        return None
    shown = " and ".join("a control character" if not letter.isprintable() else letter for letter in bad)
    return f"the path {str(folder)!r} has {shown} in it, which SLURM takes for a pattern; name another folder"


def python_command(profile: Profile, run_dir: Path) -> str:
    """What stands after `srun ` as shell text: the interpreter, and around it the container of the profile.

    pyxis is a plug-in of srun, so its words are further options of srun; apptainer is a program of its own.
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
    """HOST:INSIDE of the repository, the run folder and what the profile names; each once."""
    own = [str(REPOSITORY), str(run_dir.absolute())]
    for path in own:
        if re.search(r"[:,]", path):
            raise UserError(f"{path} cannot be mounted into a container: rename what has a colon or a comma")
    given = [mount if ":/" in mount else re.sub(r"^([^:]+)", r"\1:\1", mount) for mount in profile.container.mounts]
    return list(dict.fromkeys([*(f"{path}:{path}" for path in own), *given]))
