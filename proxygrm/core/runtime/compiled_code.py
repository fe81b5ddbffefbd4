"""Where PyTorch keeps compiled code. It loads what it finds there, whoever wrote it; by default that is
torchinductor_USER in the shared folder for temporary files."""

from __future__ import annotations

import os
from pathlib import Path

from proxygrm.core.files.owner import why_anyones

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def compiled_in(private: Path) -> dict[str, str]:
    """Variables that keep it in `private`; none where a folder is set already that not every user could have made.

    PyTorch itself sets its default in the environment, which child processes and jobs inherit: that it is set does not
    mean that somebody chose it.
    """
    if chosen := os.environ.get(_VARIABLE):
        folder = Path(chosen).absolute()
        if not _is_anyones(folder) and not _is_anyones(folder.parent):
            return {}
    return {_VARIABLE: str(private / "torchinductor")}


def _is_anyones(folder: Path) -> bool:
    """Also where this user may not look: such a folder would be of no use."""
    try:
        return bool(why_anyones(folder))
    except FileNotFoundError:
        return False
    except OSError:
        return True
