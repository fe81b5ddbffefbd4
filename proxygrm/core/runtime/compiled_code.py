"""Where PyTorch keeps compiled code. It loads what it finds there, whoever wrote it; by default that is
torchinductor_USER in the shared folder for temporary files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from proxygrm.core.files.owner import why_anyones

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def compiled_in(private: Path, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that keep it in `private`; none where a folder is set already that no other user could have made.

    PyTorch itself sets its default in the environment, which child processes and jobs inherit: that it is set does not
    mean that somebody chose it.
    """
    if chosen := (os.environ if given is None else given).get(_VARIABLE):
        folder = Path(chosen).absolute()
        if not any(why_anyones(one) for one in (folder, folder.parent) if one.exists()):
            return {}
    return {_VARIABLE: str(private / "torchinductor")}
