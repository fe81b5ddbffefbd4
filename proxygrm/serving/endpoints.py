"""The endpoints file: where the replicas of one proxy group answer, and the key they ask for."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.files.whole_file import write_text
from proxygrm.serving.settings import CONTEXT, MODES, Mode, ProxySettings

SERVED_NAME = "proxy"
_ASKED_FOR_S = 5.0


@dataclass(frozen=True)
class Endpoints:
    """replicas: base URLs without a path (`http://IP:PORT`). model: the name to ask for. picture_folder: pictures in it
    are sent as `file:` URLs, because the replicas may read it. pictures_by_name: they remember pictures by the `uuid`
    of a message part, as vLLM does. mode: what the proxy is asked for. proven: they prove that they hold the key and
    are not shown it before; servers that somebody else has started cannot. The rest are the limits the replicas were
    started with, so that a client needs nothing but this file."""

    replicas: tuple[str, ...]
    api_key: str = field(repr=False)
    model: str = SERVED_NAME
    max_tokens: int = 1024
    max_num_seqs: int = 64
    call_timeout_s: float = 600.0
    picture_folder: str = ""
    pictures_by_name: bool = False
    mode: Mode = "critique"
    proven: bool = False

    def write(self, path: Path) -> Path:
        """Atomically, readable by the owner only."""
        write_text(path, json.dumps(asdict(self)), mode=0o600)
        return path

    @classmethod
    def of_urls(
        cls, urls: Sequence[str], model: str, api_key_file: Path | None, max_tokens: int, max_num_seqs: int
    ) -> Endpoints:
        """Of servers that somebody else has started. max_tokens: 0 takes what suits the context they say they have.

        UserError: a URL that is none, no key in the key file, answers longer than a server's context.
        """
        bases = [url.rstrip("/").removesuffix("/v1") for url in urls]
        for base in bases:
            if not (base.startswith(("http://", "https://")) and urlsplit(base).hostname):
                raise UserError(f"{base!r} is not the URL of a server (http://HOST:PORT)")
        if len(set(bases)) < len(bases):
            raise UserError("a --url is given twice")
        key = "none"
        if api_key_file is not None:
            try:
                key = read_user_text(api_key_file).strip()
            except (OSError, ValueError) as error:
                raise UserError(f"cannot read the key in {api_key_file}: {error}") from error
        if not key or not key.isascii() or not key.isprintable():
            raise UserError(f"there is no key in {api_key_file}")
        known = [length for base in bases if (length := _context(base, key, model))]
        if known and max_tokens >= min(known):
            raise UserError(f"--max-tokens {max_tokens} leaves no room for a prompt in the server's {min(known)}")
        fitting = max_tokens or ProxySettings(max_model_len=min(known, default=CONTEXT)).longest_answer
        return cls(tuple(bases), key, model, fitting, max_num_seqs)

    @classmethod
    def read(cls, path: Path | str) -> Endpoints:
        try:
            found = json.loads(read_user_text(Path(path)))
            endpoints = cls(**{**found, "replicas": tuple(found["replicas"])})
        except FileNotFoundError:
            raise UserError(f"no endpoints file at {path}: start the proxy first (proxygrm proxy serve)") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not an endpoints file of a proxy group: {error}") from error
        if not endpoints.replicas:
            raise UserError(f"{path} names no replica")
        if endpoints.mode not in MODES:
            raise UserError(f"{path} has the mode {endpoints.mode!r}; it must be {' or '.join(MODES)}")
        return endpoints


def _context(base: str, key: str, model: str) -> int | None:
    """The context that a server says its model has, as vLLM does; None when it does not say, or does not answer."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{base}/v1/models", headers=headers)  # noqa: S310 (http(s), as checked)
    try:
        with direct.open(request, timeout=_ASKED_FOR_S) as answer:
            listed = json.loads(answer.read(1 << 20))["data"]
        (length,) = (one.get("max_model_len") for one in listed if one.get("id") == model)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException):
        return None
    return length if isinstance(length, int) and length > 1 else None
