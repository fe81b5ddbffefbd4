"""What the reward function and the sampler must know, as one typed JSON file that both are given the path of."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.files.whole_file import write_json


@dataclass(frozen=True)
class RewardOptions:
    """Written by the RL job before the trainer starts; read once in each process that needs it."""

    rollouts: str
    """Folder for `step_NNNNN.jsonl`, one row a rollout with every part of its reward."""
    stop_file: str
    """Where the sampler leaves the reason when it ends the run."""
    group_size: int
    """Rollouts a prompt, to notice rollouts that never came."""
    use_proxy: bool = True
    endpoints: str = ""
    """Endpoints file of the proxy group; required with `use_proxy`."""
    task: str = "grm"
    aggregation: str = "sum"
    deny_leaks: bool = True
    max_unscored: float = 0.02
    max_no_verdict: float = 0.1

    def __post_init__(self) -> None:
        if self.use_proxy and not self.endpoints:
            raise UserError("reward options: use_proxy is on, but endpoints names no file")

    def write(self, path: Path) -> Path:
        write_json(path, dataclasses.asdict(self))
        return path

    @classmethod
    def read(cls, path: str | Path) -> RewardOptions:
        """The options in `path`; an unknown, missing or ill-typed key is an error that names it."""
        try:
            found = json.loads(read_user_text(Path(path)))
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"reward options: cannot read {path}: {error}") from error
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(found) - set(fields)):
            raise UserError(f"reward options: unknown key {', '.join(unknown)} in {path}")
        kinds = {"str": str, "int": int, "bool": bool, "float": (int, float)}
        for name, value in found.items():
            kind = str(fields[name].type)
            if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "bool"):  # type: ignore[arg-type]
                raise UserError(f"reward options: {name} is {value!r} in {path}; it must be {kind}")
        try:
            return cls(**found)
        except TypeError as error:
            raise UserError(f"reward options: {path}: {error}") from error
