"""The endpoints file: the addresses, the key and the limits of one proxy group."""

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
from proxygrm.serving.access.key_file import can_be_sent
from proxygrm.serving.settings import CONTEXT, MODES, Mode, ProxySettings

SERVED_NAME = "proxy"
_MODELS_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Endpoints:
    """All that a client needs: the limits are those that the replicas were started with."""

    replicas: tuple[str, ...]
    """Base URLs without a path (`http://IP:PORT`)."""
    api_key: str = field(repr=False)
    model: str = SERVED_NAME
    """Its name in requests."""
    max_tokens: int = 1024
    max_num_seqs: int = 64
    call_timeout_s: float = 600.0
    image_folder: str = ""
    """Images in it are sent as `file:` URLs, because the replicas may read it."""
    images_by_name: bool = False
    """The replicas remember images by the `uuid` of a message part, as vLLM does."""
    mode: Mode = "critique"
    proven: bool = False
    """The replicas prove that they hold the key before it is sent to them. Servers given by URL cannot."""

    def write(self, path: Path) -> Path:
        """Atomically, readable by the owner only."""
        write_text(path, json.dumps(asdict(self)), mode=0o600)
        return path

    @classmethod
    def of_urls(
        cls,
        urls: Sequence[str],
        model: str,
        api_key_file: Path | None,
        max_tokens: int,
        max_num_seqs: int,
        api_key: str = "",
    ) -> Endpoints:
        """Of servers that were started by other means. max_tokens: 0 fits the context that the servers report.
        api_key: where no file has it; "" for none.

        UserError: not a URL, no key in the key file, answers longer than a server's context.
        """
        bases = [url.rstrip("/").removesuffix("/v1") for url in urls]
        for base in bases:
            if not (base.startswith(("http://", "https://")) and urlsplit(base).hostname):
                raise UserError(
                    f"{base!r} is not the URL of a server (http://HOST:PORT)", code="proxy.not-a-url", url=base
                )
        if len(set(bases)) < len(bases):
            raise UserError("a --url is given twice", code="proxy.url-twice", urls=bases)
        key = api_key or "none"
        if api_key_file is not None:
            try:
                key = read_user_text(api_key_file).strip()
            except (OSError, ValueError) as error:
                raise UserError(
                    f"cannot read the key in {api_key_file}: {error}", code="key-file.unreadable", path=api_key_file
                ) from error
        if not key:
            raise UserError(f"there is no key in {api_key_file}", code="key-file.empty", path=api_key_file)
        if not can_be_sent(key):
            where = f"in {api_key_file}" if api_key_file else f"for {', '.join(urls)}"
            raise UserError(
                f"the key {where} cannot be sent: it is not one line of ASCII",
                code="key.unusable",
                path=api_key_file,
            )
        contexts = [length for base in bases if (length := _context_of(base, key, model))]
        if contexts and max_tokens >= min(contexts):
            raise UserError(
                f"--max-tokens {max_tokens} leaves no room for a prompt in the server's {min(contexts)}",
                code="proxy.no-room-for-prompt",
                max_tokens=max_tokens,
                max_model_len=min(contexts),
            )
        fitting = max_tokens or ProxySettings(max_model_len=min(contexts, default=CONTEXT)).longest_answer
        return cls(tuple(bases), key, model, fitting, max_num_seqs)

    @classmethod
    def read(cls, path: Path | str) -> Endpoints:
        try:
            fields = json.loads(read_user_text(Path(path)))
            endpoints = cls(**{**fields, "replicas": tuple(fields["replicas"])})
        except FileNotFoundError:
            raise UserError(
                f"no endpoints file at {path}: start the proxy first (proxygrm proxy serve)",
                code="proxy.no-endpoints-file",
                path=path,
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not an endpoints file of a proxy group: {error}", code="proxy.not-endpoints", path=path
            ) from error
        if not endpoints.replicas:
            raise UserError(f"{path} names no replica", code="proxy.no-replica", path=path)
        if endpoints.mode not in MODES:
            raise UserError(
                f"{path} has the mode {endpoints.mode!r}; it must be {' or '.join(MODES)}",
                code="proxy.unknown-mode",
                path=path,
                mode=endpoints.mode,
            )
        return endpoints


def _context_of(base: str, key: str, model: str) -> int | None:
    """The context of a model, as vLLM reports it; None when the server does not report it, or does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{base}/v1/models", headers=headers)  # noqa: S310 (http(s), as checked)
    try:
        with opener.open(request, timeout=_MODELS_TIMEOUT_S) as response:
            models = json.loads(response.read(1 << 20))["data"]
        (length,) = (entry.get("max_model_len") for entry in models if entry.get("id") == model)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException):
        return None
    return length if isinstance(length, int) and length > 1 else None
