"""Is a Hugging Face checkpoint whole? Looks at files, headers and a few blocks of weights: no torch."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.torn import torn
from proxygrm.core.checkpoints.weights import lost, tensors
from proxygrm.core.errors import UserError, barred

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_SMALL = (".json", ".txt", ".jinja", ".model")
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit


def is_hf_checkpoint(path: Path) -> None:
    """Raises UserError that names the first thing missing; returns when the checkpoint can be loaded.

    Checked: config, tokenizer and processor files are whole; every safetensors shard that the index lists is there, has
    a readable header, is as long as the header says (a copy that was cut off is shorter), and holds weights, not the
    zeros that a crash leaves, where blocks of it are read.
    """
    with reading_checkpoint(path):
        _check(path)


@contextmanager
def reading_checkpoint(path: Path) -> Iterator[None]:
    """UserError, which names the file, for what the system does not let the block read."""
    try:
        yield
    except OSError as error:
        file = Path(error.filename or path)
        name = f"{file.relative_to(path)}: " if file != path and file.is_relative_to(path) else ""
        raise UserError(f"the checkpoint at {path} cannot be read: {name}{barred(error)}") from error


def _check(path: Path) -> None:
    """Raises OSError where the system does not let us look: that is no damage."""
    if not _there(path):
        raise UserError(f"no checkpoint at {path}: there is no such folder{_leads_nowhere(path)}")
    if not path.is_dir():
        raise UserError(f"no checkpoint at {path}: it is a file; a checkpoint is a folder with config.json")
    config = _json(path, "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError(f"the checkpoint at {path} is damaged: config.json names no model_type")
    if not any(all(_there(path / name) for name in names) for names in _TOKENIZER):
        raise UserError(f"the checkpoint at {path} is incomplete: it has no tokenizer.json; train or copy it again")
    if not any(_there(path / name) for name in _PROCESSOR):
        raise UserError(
            f"the checkpoint at {path} is incomplete: it has no {_PROCESSOR[0]}, so pictures cannot be prepared"
        )
    for name in _shards(path):
        _check_shard(path, name)
    for file in path.iterdir():  # tokenizer, processor, templates: libraries read them, later
        if file.suffix in _SMALL and _there(file) and not file.is_dir() and (reason := torn(file)):
            raise UserError(f"the checkpoint at {path} is damaged: {file.name} {reason}; train or copy it again")


def _there(path: Path) -> bool:
    """As `Path.exists`, which takes a circle of links and a path through a file for nothing at all."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _leads_nowhere(path: Path) -> str:
    """A snapshot of the hub is a folder of links; one whose files were cleaned away looks whole in a listing."""
    return f" (it is a link to {path.readlink()}, which is not there)" if path.is_symlink() else ""


def copy_linked(source: Path, target: Path, leave_out: tuple[str, ...] = ()) -> None:
    """A second folder of the same files, without those whose name matches a pattern of `leave_out`."""
    try:
        shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(*leave_out))
    except shutil.Error as error:  # of several files, gone through to the end; the first says why
        _, file, why = error.args[0][0]
        raise UserError(f"cannot write {file}: {why}") from error


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _shards(path: Path) -> list[str]:
    if not _there(path / _INDEX):
        return [_SINGLE]
    index = _json(path, _INDEX)
    weights = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise UserError(f"the checkpoint at {path} is damaged: {_INDEX} lists no weights")
    return sorted(set(weights.values()))


def _check_shard(path: Path, name: str) -> None:
    file = path / name
    if not _there(file):
        raise UserError(
            f"the checkpoint at {path} is incomplete: {name} is missing{_leads_nowhere(file)}; train or copy it again"
        )
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MOST_HEADER_BYTES, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
        found = tensors(header, 8 + length)
    except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the checkpoint at {path} is damaged: {name} is no safetensors file ({error})") from error
    expected = max((tensor.end for tensor in found), default=8 + length)
    if size != expected:
        raise UserError(f"the checkpoint at {path} is damaged: {name} has {size} bytes, its header says {expected}")
    if blank := lost(file, found):
        raise UserError(
            f"the checkpoint at {path} is damaged: {name} holds zeros in the place of weights ({blank}), as a crash "
            "leaves them; train or copy it again"
        )


def _json(path: Path, name: str) -> Any:
    try:
        return json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"the checkpoint at {path} is incomplete: it has no {name}{_leads_nowhere(path / name)}"
        ) from error
    except ValueError as error:
        raise UserError(f"the checkpoint at {path} is damaged: {name} cannot be read ({error})") from error
