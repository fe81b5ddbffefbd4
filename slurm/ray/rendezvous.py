"""How the tasks of one job meet: small files in a folder of the job on the shared file system."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_text
from slurm.ray.plan import NodeRecord

T = TypeVar("T")
POLL_S = 0.2


class Rendezvous:
    """One attempt of one job; a requeued job uses another folder, so no stale file can mislead it.

    token: 0600, Ray's authentication.   secret: 0600, see `proxygrm.core.runtime.job_secret`.
    node-R.json: name and address of rank R.   head.json: address of Ray's head.
    plan.json: for users, which node does what, and the port.
    failed-R.json: first failure on rank R.   end: `ok` or `failed`, written by rank 0.   left-R: rank R has left.
    """

    def __init__(self, folder: Path, rank: int, size: int) -> None:
        attempt = f"{os.environ.get('SLURM_JOB_ID', 'none')}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        self.folder, self.rank, self.size = folder / attempt, rank, size
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    def create_secrets(self) -> None:
        """Also removes those of earlier attempts that were killed."""
        for name in (self.token.name, self.secret.name):
            for stale in self.folder.parent.glob(f"*/{name}"):
                stale.unlink(missing_ok=True)
        # Two files: Ray sends its token over the network unencrypted.
        write_text(self.token, secrets.token_hex(32), mode=0o600)
        write_text(self.secret, secrets.token_hex(32), mode=0o600)

    def remove_secrets(self) -> None:
        """Nothing secret outlives the job in its run folder."""
        self.token.unlink(missing_ok=True)
        self.secret.unlink(missing_ok=True)

    def publish(self, name: str, value: Any) -> None:
        write_text(self.folder / name, json.dumps(value))

    def read(self, name: str) -> Any | None:
        """A file's content, or None. Lists the folder first: that makes NFS look again for a file it missed."""
        if name not in os.listdir(self.folder):  # noqa: PTH208
            return None
        return json.loads((self.folder / name).read_text())

    def nodes(self, name: str, address: str, deadline: float) -> list[NodeRecord]:
        """The records of all nodes, after publishing this node's."""
        self.publish(f"node-{self.rank}.json", {"rank": self.rank, "name": name, "address": address})

        def read_all() -> list[NodeRecord] | None:
            rows = [self.read(f"node-{rank}.json") for rank in range(self.size)]
            return [NodeRecord(**row) for row in rows if row] if all(rows) else None

        return self.wait(read_all, deadline, lambda: f"{self._present()} of {self.size} nodes have started")

    def _present(self) -> int:
        return sum(self.read(f"node-{rank}.json") is not None for rank in range(self.size))

    def wait(self, ready: Callable[[], T | None], deadline: float, describe: Callable[[], str]) -> T:
        """The first result of `ready` that is not None. UserError when a node has failed, or after the deadline
        (time.monotonic()), with what `describe` returns."""
        while True:
            if (value := ready()) is not None:
                return value
            if failure := self.failure():
                raise UserError(failure, code="ray.node-failed")
            if time.monotonic() > deadline:
                state = describe()
                raise UserError(f"the nodes did not meet in time: {state}", code="ray.rendezvous-timeout", state=state)
            time.sleep(POLL_S)

    def report_failure(self, node: str, reason: str) -> None:
        """The first one of this rank counts."""
        if self.read(f"failed-{self.rank}.json") is None:
            self.publish(f"failed-{self.rank}.json", {"node": node, "what": reason, "time": time.time()})

    def failure(self) -> str | None:
        """The earliest failure any node reported, with its name."""
        rows = [self.read(f"failed-{rank}.json") for rank in range(self.size)]
        first = min((row for row in rows if row), key=lambda row: row["time"], default=None)
        return f"node {first['node']}: {first['what']}" if first else None

    def end(self) -> str | None:
        return self.read("end")
