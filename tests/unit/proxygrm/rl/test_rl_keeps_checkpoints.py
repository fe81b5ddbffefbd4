"""The last N checkpoints of an RL run stay, also after a resume, where verl's own count starts anew."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from proxygrm.rl.checkpoints import clean_up, prune


def save(checkpoints: Path, step: int) -> Path:
    """As verl does: the weights, the position in the data, then the file that names the step."""
    actor = checkpoints / f"global_step_{step}" / "actor"
    actor.mkdir(parents=True)
    (actor / "weights").write_text("w")
    with ZipFile(actor.parent / "data.pt", "w") as position:
        position.writestr("position", "7")
    (checkpoints / "latest_checkpointed_iteration.txt").write_text(str(step))
    return actor


def kept(checkpoints: Path) -> list[int]:
    return sorted(int(path.name.rpartition("_")[2]) for path in checkpoints.glob("global_step_*"))


@pytest.mark.parametrize("keep", [1, 2, 3])
@pytest.mark.heavy
def test_verl_with_a_resume_never_holds_more_than_one_beside_them(tmp_path: Path, keep: int) -> None:
    from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager

    checkpoints = tmp_path / "checkpoints"

    def train(steps: range) -> int:
        """An attempt: verl's own bookkeeping around each save. Returns the most checkpoints it had at a time."""
        manager = BaseCheckpointManager.__new__(BaseCheckpointManager)
        manager.previous_saved_paths, most = [], 0
        for step in steps:
            manager.ensure_checkpoint_capacity(keep)
            actor = save(checkpoints, step)
            most = max(most, len(kept(checkpoints)))
            manager.register_checkpoint(str(actor), keep)
            prune(checkpoints, keep)
            assert kept(checkpoints) == list(range(max(1, step - keep + 1), step + 1))
        return most

    assert train(range(1, 6)) <= keep + 1
    save(checkpoints, 6)  # killed before verl removed an older one
    clean_up(checkpoints, keep)
    assert kept(checkpoints) == list(range(7 - keep, 7))
    assert train(range(7, 12)) <= keep + 1


def test_a_checkpoint_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        save(tmp_path, step)
    (tmp_path / "global_step_8" / "actor").mkdir(parents=True)
    prune(tmp_path, 1)
    assert kept(tmp_path) == [6, 8]


@pytest.mark.parametrize("pointer", [None, "", "4\0"])
def test_nothing_goes_while_verl_s_file_names_no_step(tmp_path: Path, pointer: str | None) -> None:
    for step in (2, 4, 6):
        save(tmp_path, step)
    file = tmp_path / "latest_checkpointed_iteration.txt"
    file.unlink() if pointer is None else file.write_text(pointer)
    prune(tmp_path, 1)
    assert kept(tmp_path) == [2, 4, 6]
