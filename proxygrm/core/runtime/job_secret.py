"""What only the processes of one job share: a secret in a 0600 file, and a 0700 folder on each node.

Both are named in the environment of the job's Ray processes. The secret itself is in no environment and on no command
line: Ray shows its workers' environment to every client.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.files.owner import is_private
from proxygrm.core.runtime import held_folder
from proxygrm.core.runtime.compiled_code import compiled_in

SECRET_FILE = "PROXYGRM_JOB_SECRET_FILE"  # noqa: S105 (the name of a variable)
NODE_FOLDER = "PROXYGRM_NODE_FOLDER"


def derive_key(purpose: str) -> bytes:
    """32 bytes of this job for one purpose; those for another purpose do not follow from them."""
    name = os.environ.get(SECRET_FILE)
    if not name:
        raise RuntimeError(f"${SECRET_FILE} is not set: the job's sockets cannot be guarded without its secret")
    secret = Path(name).read_bytes()
    if len(secret) < 32:
        raise RuntimeError(f"{name} holds {len(secret)} bytes; the job's secret has at least 32")
    return hmac.digest(secret, purpose.encode(), hashlib.sha256)


def node_folder() -> Path:
    """The job's folder on this node. RuntimeError unless it is this user's and no other user may enter it."""
    name = os.environ.get(NODE_FOLDER)
    if not name:
        raise RuntimeError(f"${NODE_FOLDER} is not set: the job's sockets have no private folder on this node")
    if not is_private(Path(name)):
        raise RuntimeError(f"{name} must be a folder of this user with permissions 0700, for the job's sockets")
    return Path(name)


def new_folder(kind: str) -> Path:
    """A `held_folder` for Unix sockets: in the job's own on this node, else in /tmp. Their paths have at most 107
    characters, so $TMPDIR, which a site may set to anything, is not used."""
    return held_folder.new(kind, node_folder() if os.environ.get(NODE_FOLDER) else Path("/tmp"))  # noqa: S108


@contextmanager
def vllm_sockets() -> Iterator[dict[str, str]]:
    """Variables with which a vLLM keeps its Unix sockets and compiled code in a folder of its own, removed at the end:
    when vLLM is killed, it removes none of them itself."""
    folder = new_folder("pgvllm")
    try:
        yield {"VLLM_RPC_BASE_PATH": str(folder), **compiled_in(folder)}
    finally:
        held_folder.remove(folder)
