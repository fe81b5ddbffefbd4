"""Secrets in text. Settings are written into run folders, scripts and logs, so a secret in them is refused. Text that a
run keeps (the code's uncommitted changes, the reason of a failure) is kept without its secrets.

The patterns are those of detect-secrets (only its regular expressions: nothing is verified, so nothing is sent), and a
few of this field that it does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.engine.stage import plain
from proxygrm.core.errors import UserError

_KEYWORD = (
    r"api[_-]?key|access[_-]?key|auth[_-]?key|account[_-]?key|private[_-]?key|client[_-]?secret|secret|passw(?:or)?d|"
    r"passphrase|credentials?"
)
_LITERAL = r"(?![\s$<{%*(\[])"
"""Excludes placeholders: $VAR, <your key>, {key}, %s, ***, (call), [list]."""
_SET = r"(?::\s*\w+\s*=|=>|[:!=]=|[=:,])"
_KEY_BEGINS, _KEY_ENDS = re.compile(r"BEGIN [A-Z0-9 ]*PRIVATE KEY"), re.compile(r"END [A-Z0-9 ]*PRIVATE KEY")
_SECRETS = (
    (re.compile(r"\b[\w+.-]+://[^\s/@:'\"]*:" + _LITERAL + r"[^\s/@]+@"), "a password in a URL"),
    (
        re.compile(rf"[?&](?:api[_-]?key|access[_-]?token|token|key|secret|sig|signature)={_LITERAL}[^\s&]+", re.I),
        "a key in a URL",
    ),
    (
        re.compile(
            r"\b(?:sk-(?=[\w-]*\d)[\w-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|"
            r"gl(?:pat|dt|rt|ft|oas|ptt|cbt|soat|imt|agent)-[\w-]{16,}|xox[abeoprs](?:\.xox[bp])?-[\w-]{10,}|"
            r"xapp-[\w-]{16,}|AIza[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}|npm_[A-Za-z0-9]{30,}|"
            r"pypi-Ag[\w-]{40,}|[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}|nvapi-[\w-]{20,}|gsk_[A-Za-z0-9]{20,}|"
            r"r8_[A-Za-z0-9]{30,}|dckr_pat_[\w-]{16,}|dop_v1_[0-9a-f]{40,}|shpat_[0-9a-f]{30,}|pplx-[A-Za-z0-9]{30,}|"
            r"AGE-SECRET-KEY-1[0-9A-Z]{20,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)"
        ),
        "an API key",
    ),
    (
        re.compile(
            r"\b\w*(?:API_?KEY|ACCESS_KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE)=(?!\$|\s|$|['\"]?\$)[^\s]{6,}"
        ),
        "a secret set in shell text",
    ),
    (re.compile(r"\b(?:Bearer|Basic)\s+(?=\S*\d)[\w.~+/-]{8,}", re.I), "a key in a header"),
    (
        re.compile(
            rf"\b(?:Authorization|X-[\w-]*(?:Key|Token))['\"]?\s*[:=]\s*['\"]?{_LITERAL}(?=[^'\"]*\d)[^'\"]{{8,}}", re.I
        ),
        "a key in a header",
    ),
    (_KEY_BEGINS, "a private key"),
    (
        re.compile(r"--(?:api-?key|token|password|secret|passphrase)[= ]\s*['\"]?" + _LITERAL + r"[^\s'\"]{6,}", re.I),
        "a secret among options",
    ),
)  # fmt: skip
"""Patterns of secrets, and what to call them without showing them. None is a guess: settings that match are refused."""
_LIKELY = (
    re.compile(rf"(?:{_KEYWORD})\w*['\"\])]*\s*{_SET}\s*[rbuf]?(['\"`]){_LITERAL}[^\s'\"`]{{6,}}\1", re.I),
    re.compile(rf"token(?:s?_\w+)?['\"\])]*\s*{_SET}\s*[rbuf]?(['\"`]){_LITERAL}(?=\S*\d)[^\s'\"`]{{8,}}\1", re.I),
    re.compile(r"\blogin\(\s*(['\"])(?=\S*\d)[A-Za-z0-9]{16,}\1"),
    re.compile(r"\bpassword\s+(?=\S*\d)\S{6,}\s*$", re.I),  # .netrc
)  # fmt: skip
"""Guesses, for text that is masked: one line too many does no harm."""
_SECRET_NAME = re.compile(rf"(?:^|[_-])(?:{_KEYWORD}|token)$", re.I)
_KEY_TEXT = re.compile(r"[+\- ]?\s*['\"]?[A-Za-z0-9+/]{1,80}={0,2}(?:\\n)?['\",\\\s]*")
_KEY_LINE = re.compile(r"[+\- ]?\s*['\"]?(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[A-Za-z0-9+/]{40,}={0,2}(?:\\n)?['\",\\\s]*")
_MIXED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)")
_TOKEN_LIKE = re.compile(r"(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{20,}")
_GUESSES = {"Secret Keyword", "Base64 High Entropy String", "Hex High Entropy String", "Public IP (ipv4)"}
_TOO_WIDE = {"Artifactory Credentials"}
"""Matches words in capitals that start with AP."""
_CONFIGURATION = {"", ".env", ".conf", ".cfg", ".properties", ".txt", ".sh", ".bash", ".sbatch", ".service", ".tf"}
_CHUNK, _OVERLAP = 4000, 400
"""Lines are matched in parts of this length: some of the regular expressions are slow on long lines."""


def refuse(settings: Any, where: str) -> None:
    """Raise UserError when any text within settings (dataclasses, lists, tables) looks like a secret."""
    for path, text in _texts(plain(settings), where):
        if name := _name_of(text) or _by_name(path, text):
            raise UserError(
                f"{path} holds {name}, which would be written into the run folder; keep it in a 0600 file "
                "(api_key_file, SWANLAB_API_KEY_FILE) or in your shell's environment",
                code="settings.secret",
                path=path,
                kind=name,
            )


def masked(text: str) -> tuple[str, int]:
    """The text without its secrets, and how many lines are left out. A diff keeps its number of lines, the mark at the
    start of each, and the object names of its files."""
    lines = text.splitlines(keepends=True)
    hidden = _hidden(lines)
    for number in hidden:
        line = lines[number]
        end = line[len(line.rstrip("\r\n")) :]
        mark = line[0] if line[0] in "+- " else ""
        lines[number] = f"{mark}(a line that looks like a secret){end}"
    return "".join(lines), len(hidden)


def masked_words(text: str) -> str:
    """A sentence with each secret in it replaced; only by the patterns of this file, because a failing job must be able
    to record its reason in any environment."""
    for shape, name in _SECRETS:
        text = shape.sub(f"({name})", text)
    return text


def _hidden(lines: list[str]) -> list[int]:
    """Numbers of the lines that show a secret, or a part of one."""
    hidden: set[int] = set()
    name, in_key = "", False
    for number, line in enumerate(lines):
        if line.startswith(("diff --git ", "@@ ")):
            in_key = False
        if line.startswith(("+++ ", "--- ")):
            name = line[4:].strip()
        if in_key or _shows_secret(line, name):
            hidden.add(number)
        if _KEY_BEGINS.search(line):
            in_key = True
        if _KEY_ENDS.search(line):
            in_key = False
            hidden.add(number)
            above = number - 1  # of a key whose first line is not shown
            while above >= 0 and above not in hidden and _KEY_TEXT.fullmatch(lines[above]):
                hidden.add(above)
                above -= 1
    return sorted(hidden)


def _shows_secret(line: str, name: str) -> bool:
    for start in range(0, max(1, len(line)), _CHUNK):
        part = line[start : start + _CHUNK + _OVERLAP]
        if any(shape.search(part) for shape, _ in _SECRETS) or any(shape.search(part) for shape in _LIKELY):
            return True
        if _KEY_LINE.fullmatch(part) or any(_matches(detector, part) for _, detector in _detectors()) or _random(part):
            return True
        keyword = _keyword_detector()
        suffix = PurePosixPath(name).suffix or (".env" if name.endswith(".env") else "")
        shown_as = "x.ini" if suffix in _CONFIGURATION or "/.env" in name else name
        if name and keyword.analyze_line(filename=shown_as, line=part[1:]):
            return True
        if not name and _matches(keyword, part):
            return True
    return False


def _matches(detector: Any, text: str) -> bool:
    return next(iter(detector.analyze_string(text)), None) is not None


@lru_cache(maxsize=10_000)  # the cells of an ablation repeat each other's settings
def _name_of(text: str) -> str:
    """What kind of secret it is; "" for ordinary text."""
    for shape, name in _SECRETS:
        if shape.search(text):
            return name
    if _TOKEN_LIKE.search(text):  # none of the package's patterns is shorter, and it takes a tenth of a second to load
        for name, detector in _detectors():
            if _matches(detector, text):
                return f"a secret ({name})"
    return ""


def _by_name(path: str, text: str) -> str:
    """A kind of secret by the name of a variable in a table; "" for other names."""
    name = path.rpartition(".")[2]
    literal = len(text) >= 6 and not text.startswith(("$", "/", "~", "<")) and not re.search(r"\s", text)
    return "a value whose name says that it is a secret" if literal and _SECRET_NAME.search(name) else ""


def _random(text: str) -> bool:
    """Whether a quoted text of letters in both cases and digits is as random as a key."""
    detector = _random_detector()
    return any(
        detector.calculate_shannon_entropy(quoted) > detector.entropy_limit and _MIXED.match(quoted)
        for quoted in detector.analyze_string(text)
    )


@cache
def _detectors() -> tuple[tuple[str, Any], ...]:
    """The package's detectors by name, without those that go by a word or by entropy."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    every: Any = get_mapping_from_secret_type_to_class()
    return tuple((name, plugin()) for name, plugin in every.items() if name not in _GUESSES | _TOO_WIDE)


@cache
def _random_detector() -> Any:
    from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString

    return Base64HighEntropyString()


@cache
def _keyword_detector() -> Any:
    from detect_secrets.plugins.keyword import KeywordDetector

    return KeywordDetector()


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str | Path):
        yield path, str(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield path, str(key)
            yield from _texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, path)
