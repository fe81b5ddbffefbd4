"""ms-swift in this process, for one process on CPUs: its own command would import it only to start another interpreter.

python -m proxygrm.sft.here sft ...
"""

from __future__ import annotations

import runpy
import sys

from proxygrm.core.runtime.quick_end import quick_end


def main(name: str, arguments: list[str]) -> None:
    """name: of a command of ms-swift."""
    module = f"swift.cli.{name}"
    with quick_end():
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
