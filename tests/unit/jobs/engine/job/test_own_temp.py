"""What a task and its children put into the temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobs.engine.job.own_temp import own_temp
from proxygrm.core.runtime import held_folder
from proxygrm.core.runtime.held_folder import prefix
from proxygrm.core.runtime.job_secret import NODE_FOLDER, vllm_sockets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
TASK = """
from jobs.engine.job import own_temp
own_temp._LONGEST = 200
with own_temp.own_temp() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    input()
"""
SOCKETS = "from proxygrm.core.runtime.job_secret import new_folder; print(new_folder('pgvllm'), flush=True); input()"
WHERE = "import tempfile; print(tempfile.mkdtemp())"


def test_nobody_else_may_enter_it_children_use_it_and_it_goes_with_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with own_temp() as folder:
        assert folder.parent == (tmp_path if len(str(tmp_path)) <= 45 else Path("/tmp"))
        assert folder.stat().st_mode & 0o777 == 0o700
        told = subprocess.run([sys.executable, "-c", WHERE], capture_output=True, text=True, check=True).stdout
        assert Path(told.strip()).parent == Path(tempfile.mkdtemp()).parent == folder
    assert not folder.exists()
    assert (os.environ["TMPDIR"], tempfile.gettempdir()) == (str(tmp_path), str(tmp_path))


def test_pytorch_s_compiled_code_is_not_loaded_from_a_folder_that_another_user_could_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    ask = "from torch._inductor.runtime.cache_dir_utils import cache_dir; print(cache_dir())"
    with own_temp() as folder:
        told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
        assert Path(told.strip()).parent == folder


@pytest.mark.parametrize("kind", ["in a shared folder", "that everybody may write", "of the user's own"])
def test_pytorch_s_compiled_code_is_where_the_user_says_unless_another_user_could_make_or_fill_that_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch says it too: it puts its default into the environment."""
    chosen = tmp_path / "compiled"
    if kind == "in a shared folder":
        tmp_path.chmod(0o1777)
    else:
        chosen.mkdir()
        chosen.chmod(0o1777 if kind == "that everybody may write" else 0o700)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(chosen))
    with own_temp() as folder:
        used = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        with vllm_sockets() as variables:
            served = Path({**os.environ, **variables}["TORCHINDUCTOR_CACHE_DIR"])
    assert used == served == (chosen if kind == "of the user's own" else folder / "torchinductor")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(chosen)


def test_a_folder_for_compiled_code_in_which_nobody_may_look_does_not_end_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "compiled"))  # root may look into any folder
    with own_temp() as folder:
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder / "torchinductor")


def test_vllm_s_compiled_code_is_in_its_private_folder_outside_of_jobs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor_user")
    monkeypatch.delenv(NODE_FOLDER, raising=False)
    with vllm_sockets() as variables:
        assert Path(variables["TORCHINDUCTOR_CACHE_DIR"]).parent.stat().st_mode & 0o777 == 0o700


def test_room_is_left_for_the_paths_of_unix_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("d" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with own_temp() as folder:
        assert folder.parent == Path("/tmp")
    assert tempfile.gettempdir() == str(long)


def test_a_failure_leaves_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("jobs.engine.job.own_temp._LONGEST", 200)

    def fail() -> None:
        with own_temp() as folder:
            (folder / "left").mkdir()
            (folder / "left").mkdir()

    with pytest.raises(FileExistsError):
        fail()
    assert list(tmp_path.iterdir()) == []
    assert "TMPDIR" not in os.environ


def test_what_a_killed_task_left_goes_with_the_next_task_and_what_is_in_use_or_somebody_else_s_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("jobs.engine.job.own_temp._LONGEST", 200)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    killed, alive = (subprocess.Popen([sys.executable, "-c", TASK], stdin=-1, stdout=-1, text=True) for _ in "ab")
    with killed, alive:
        assert killed.stdout is not None
        assert alive.stdout is not None
        left, used = Path(killed.stdout.readline().strip()), Path(alive.stdout.readline().strip())
        killed.kill()
        killed.wait()
        assert left.parent == tmp_path
        assert (left / "file").exists()
        (tmp_path / (prefix("pgjob") + "link")).symlink_to(used)
        with own_temp():
            assert not left.exists()
            assert (used / "file").exists()
        alive.communicate("\n")
    assert not used.exists()


def test_the_sockets_of_a_server_whose_process_was_killed_go_with_the_next_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with subprocess.Popen([sys.executable, "-c", SOCKETS], stdin=-1, stdout=-1, text=True) as killed:
        assert killed.stdout is not None
        left = Path(killed.stdout.readline().strip())
        with vllm_sockets() as first:
            assert left.is_dir(), "its process lives"
        killed.kill()
        killed.wait()
        with vllm_sockets() as second:
            assert not left.exists()
            assert Path(second["VLLM_RPC_BASE_PATH"]).stat().st_mode & 0o777 == 0o700
    assert first != second
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's folder")
def test_another_user_s_folder_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("jobs.engine.job.own_temp._LONGEST", 200)
    theirs = tmp_path / (prefix("pgjob") + "theirs")
    theirs.mkdir()
    (theirs / "file").touch()
    os.chown(theirs, 65534, 65534)
    with own_temp():
        pass
    assert (theirs / "file").exists()


def test_a_folder_that_another_process_removes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs of one user start at the same moment: one may take the other's new folder for an abandoned one."""
    made: list[Path] = []
    make = held_folder.tempfile.mkdtemp

    def removed_at_once(**options: str) -> str:
        folder = Path(make(**options))
        made.append(folder)
        if len(made) == 1:
            folder.rmdir()
        return str(folder)

    monkeypatch.setattr(held_folder.tempfile, "mkdtemp", removed_at_once)
    folder = held_folder.new("pgtest", tmp_path)
    assert folder == made[1]
    assert folder.is_dir()
    held_folder.remove(folder)
