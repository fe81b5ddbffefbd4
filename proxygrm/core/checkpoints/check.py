"""Checks that a Hugging Face checkpoint is complete: its files, their headers and a few blocks of weights. No torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.torn import torn
from proxygrm.core.checkpoints.weights import find_zeroed, tensors
from proxygrm.core.errors import UserError, unreadable_reason

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_SMALL = (".json", ".txt", ".jinja", ".model")
_URL = re.compile(r"(?:^|/)https?:/")
"""A path has one slash where an address has two."""
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def check_checkpoint(path: Path) -> None:
    """Raises UserError for the first problem found; returns when the checkpoint can be loaded.

    Checked: config, tokenizer and processor files are intact; every safetensors shard in the index exists, has a
    readable header, is as long as the header says (a truncated copy is shorter), and has weights instead of the zeros
    that a crash leaves, in a sample of blocks. Codes: checkpoint.missing, .incomplete, .damaged, .unreadable.
    """
    with reading_checkpoint(path):
        _check(path)


@contextmanager
def reading_checkpoint(path: Path) -> Iterator[None]:
    """Turns an error of the system in the block into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        file = Path(error.filename or path)
        name = f"{file.relative_to(path)}: " if file != path and file.is_relative_to(path) else ""
        raise UserError(
            f"the checkpoint at {path} cannot be read: {name}{unreadable_reason(error)}",
            code="checkpoint.unreadable",
            path=path,
            file=name.removesuffix(": "),
        ) from error


def _damaged(path: Path, problem: str, file: str) -> UserError:
    return UserError(f"the checkpoint at {path} is damaged: {problem}", code="checkpoint.damaged", path=path, file=file)


def _incomplete(path: Path, problem: str, file: str) -> UserError:
    return UserError(
        f"the checkpoint at {path} is incomplete: {problem}", code="checkpoint.incomplete", path=path, file=file
    )


def check_folder(path: Path) -> None:
    """Raises UserError unless it is a folder."""
    if not _exists(path):
        what = "it is an address; this needs the folder" if _URL.search(str(path)) else "there is no such folder"
        raise UserError(
            f"no checkpoint at {path}: {what}{_broken_link(path)}",
            code="checkpoint.missing",
            path=path,
        )
    if not path.is_dir():
        raise UserError(
            f"no checkpoint at {path}: it is a file; a checkpoint is a folder with config.json",
            code="checkpoint.not-a-folder",
            path=path,
        )


def _check(path: Path) -> None:
    """Raises OSError for errors of the system: they are not damage."""
    check_folder(path)
    config = read_json(path, "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise _damaged(path, "config.json has no model_type", "config.json")
    if not any(all(_exists(path / name) for name in names) for names in _TOKENIZER):
        raise _incomplete(path, "it has no tokenizer.json; train or copy it again", "tokenizer.json")
    if not any(_exists(path / name) for name in _PROCESSOR):
        raise _incomplete(path, f"it has no {_PROCESSOR[0]}, so images cannot be prepared", _PROCESSOR[0])
    for name in _shards(path):
        check_shard(path, name)
    check_small_files(path)


def check_small_files(path: Path) -> None:
    """Tokenizer, processor, templates: libraries read them later."""
    for file in path.iterdir():
        if file.suffix in _SMALL and _exists(file) and not file.is_dir() and (reason := torn(file)):
            raise _damaged(path, f"{file.name} {reason}; train or copy it again", file.name)


def _exists(path: Path) -> bool:
    """As `Path.exists`, but a loop of links or a path through a file is an OSError instead of False."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _broken_link(path: Path) -> str:
    """A snapshot of the hub is a folder of links; with their targets removed it looks complete in a listing."""
    return f" (it is a link to {path.readlink()}, which does not exist)" if path.is_symlink() else ""


def copy_linked(source: Path, target: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Copy a folder by hard links where possible, without the files whose name matches a pattern of `leave_out`."""
    try:
        shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(*leave_out))
    except shutil.Error as error:  # the errors of all files; the first one is enough
        _, file, reason = error.args[0][0]
        raise UserError(f"cannot write {file}: {reason}", code="file.cannot-write", path=str(file)) from error


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _shards(path: Path) -> list[str]:
    if not _exists(path / _INDEX):
        return [_SINGLE]
    index = read_json(path, _INDEX)
    weights = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise _damaged(path, f"{_INDEX} lists no weights", _INDEX)
    return sorted(set(weights.values()))


def check_shard(path: Path, name: str) -> None:
    """A safetensors file: its header, its length, its weights."""
    file = path / name
    if not _exists(file):
        raise _incomplete(path, f"{name} is missing{_broken_link(file)}; train or copy it again", name)
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
        entries = tensors(header, 8 + length)
    except (ValueError, struct.error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{name} is not a safetensors file ({error})", name) from error
    expected = max((tensor.end for tensor in entries), default=8 + length)
    if size != expected:
        raise _damaged(path, f"{name} has {size} bytes, its header says {expected}", name)
    if tensor_name := find_zeroed(file, entries):
        raise _damaged(
            path, f"{name} has zeros instead of weights ({tensor_name}), after a crash; train or copy it again", name
        )


def read_json(path: Path, name: str) -> Any:
    """A file of a checkpoint."""
    try:
        return json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _incomplete(path, f"it has no {name}{_broken_link(path / name)}", name) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{name} cannot be read ({error})", name) from error
