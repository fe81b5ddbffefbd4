"""A policy's answer: JSON with the steps of a solution, the visual fact each one leans on, and the final answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.process.checklist import Step, steps_in
from proxygrm.process.json_text import balanced, objects_in, without_trailing_commas

STEPS, FINAL = "reasoningprocess", "finalanswer"
FALLBACK_NOTE = {"_parse_note": "regex_fallback"}
MAX_STEPS = 256
"""Of a solution that is scored as a reward."""
MAX_CHARS = 1_000_000
"""A longer answer is not read: it is a policy that did not stop."""
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"', "‘": "'", "’": "'"})
_LANGUAGE = re.compile(r"[\w+-]*\s*")
_LONE_BACKSLASH = re.compile(r'(\\\\)|\\(?!["\\/bfnrtu])')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STRING = r'"((?:[^"\\]|\\.)*)"'
_FINAL_FIELD = re.compile(rf'"finalanswer"\s*:\s*(?:{_STRING}|(-?\d[\d.]*))', re.DOTALL)
_TEXT_FIELD = re.compile(rf'"steptext\w*"\s*:\s*{_STRING}', re.DOTALL)
_DEPENDENCY_FIELD = re.compile(rf'"visualdependency\w*"\s*:\s*(?:{_STRING}|(null))', re.DOTALL)
_LATEX = (
    r"boldsymbol|rightarrow|rightangle|underbrace|backslash|nparallel|therefore|triangleq|underline"
    r"|triangle|underset|natural|nearrow|newline|uparrow|upsilon|bigcap|bigcup|bullet|forall|rangle|rbrace"
    r"|rfloor|textbf|textit|textrm|begin|binom|boxed|frown|nabla|notin|rceil|right|tfrac|theta|tilde|times"
    r"|uplus|beta|bigl|bigr|flat|frac|fbox|ngeq|nleq|nmid|real|tanh|text|unit|bar|big|bot|neg|neq|not|rho"
    r"|tan|tau|top|ne|ni|nu|to"
)
"""Commands that begin like an escape of JSON (\\b \\f \\n \\r \\t \\u), longest first."""
_LATEX_COMMAND = re.compile(rf"(\\\\)|\\(?=(?:{_LATEX})(?![A-Za-z])|u(?![0-9A-Fa-f]{{4}}))")


Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    row: dict[str, Any]
    """{reasoningprocess: [{steptext, visualdependency}], finalanswer}, or {error, rawoutput}."""
    problem: str = ""
    """A word for what is wrong, by which such answers are counted; "": nothing."""

    @property
    def ok(self) -> bool:
        return "error" not in self.row


def read_policy(text: str, as_upstream: bool = False) -> PolicyAnswer:
    r"""The solution in a policy's text.

    The JSON may stand in a fence or between sentences; trailing commas, curly quotes and lone backslashes of LaTeX are
    repaired, those that JSON would take for an escape too (\frac, \times). Of several objects the last one with steps
    counts. Where no JSON is left, the fields are looked for one by one (problem "rebuilt"): an answer
    that was cut off keeps its complete steps, and lacks the final answer. An answer without steps has the row
    {error, rawoutput}; problem is then not_json, no_steps, bad_step or too_long.

    as_upstream: the released reading. Any JSON object will do, whatever it holds, and \frac stays a form feed.
    """
    if as_upstream:
        return _released(text)
    if len(text) > MAX_CHARS:
        return _failed(text[:MAX_CHARS], "too_long")
    readable = repaired(text)
    candidates = _with_steps(readable) or _with_steps(readable.translate(_QUOTES))
    if candidates:
        value, problem = candidates[-1], ""
    else:
        fields = _by_fields(readable)
        if fields is None:
            return _failed(text, "not_json")
        value, problem = fields, "rebuilt"
    steps = value.get(STEPS)
    if not isinstance(steps, list) or not steps:
        return _failed(text, "no_steps")
    if not all(isinstance(step, dict) and isinstance(step.get("steptext"), str) for step in steps):
        return _failed(text, "bad_step")
    answer = value.get(FINAL)
    problem = problem or ("" if answer not in (None, "") else "no_final_answer")
    return PolicyAnswer(value | {FINAL: _answer_text(answer)}, problem)


def steps_of(response: Any) -> tuple[Steps, str]:
    """(steps, "") of a response, or ((), why it has none). A text is read as the policy's own."""
    if isinstance(response, str):
        response = read_policy(response).row
    if not isinstance(response, Mapping):
        return (), "no_response"
    if "error" in response and STEPS not in response:
        return (), "failed_response"
    try:
        steps = steps_in(response.get(STEPS))
    except BadRow as error:
        return (), error.cause
    return (tuple(steps), "") if steps else ((), "no_steps")


def final_answer(text: str) -> str:
    """Of a solution in steps; any other text as it is."""
    return str(read_policy(text).row.get(FINAL, text)) if FINAL in text else text


def _with_steps(text: str) -> list[dict[str, Any]]:
    return [value for value in objects_in(text) if STEPS in value]


def _answer_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _failed(text: str, problem: str) -> PolicyAnswer:
    return PolicyAnswer({"error": problem, "rawoutput": text}, problem)


def repaired(text: str) -> str:
    """JSON whose strings hold lone backslashes of LaTeX, also those that look like an escape, and raw line breaks."""
    text = _LATEX_COMMAND.sub(lambda match: match[1] or r"\\", text)
    text = _LONE_BACKSLASH.sub(lambda match: match[1] or r"\\", text)
    return _line_breaks_in_strings(text)


def _line_breaks_in_strings(text: str) -> str:
    """Raw control characters within strings, which JSON forbids, as escapes."""
    return _QUOTED.sub(lambda match: _CONTROL.sub(lambda raw: json.dumps(raw[0])[1:-1], match[0]), text)


def _by_fields(text: str) -> dict[str, Any] | None:
    """What can be found of the fields of a broken answer; None without a step and without a final answer."""
    texts = [_unescaped(match[1]) for match in _TEXT_FIELD.finditer(text)]
    depends = [None if match[2] else _unescaped(match[1]) for match in _DEPENDENCY_FIELD.finditer(text)]
    final = _FINAL_FIELD.search(text)
    if not texts and not final:
        return None
    padded = depends + [None] * (len(texts) - len(depends))
    steps = [{"steptext": step, "visualdependency": fact} for step, fact in zip(texts, padded, strict=False)]
    answer = (final[2] if final[1] is None else _unescaped(final[1])) if final else ""
    return {STEPS: steps, FINAL: answer} | FALLBACK_NOTE


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _released(text: str) -> PolicyAnswer:
    part = _released_part(text)
    if part is not None:
        part = without_trailing_commas(part.translate(_QUOTES))
        part = _CONTROL.sub("", _LONE_BACKSLASH.sub(lambda match: match[1] or r"\\", part))
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return PolicyAnswer(value)
    fields = _by_fields(text)
    return PolicyAnswer(fields, "rebuilt") if fields is not None else _failed(text, "not_json")


def _released_part(text: str) -> str | None:
    for block in text.split("```")[1:-1]:
        inside = _LANGUAGE.sub("", block, count=1).strip()
        if inside.startswith("{") and inside.endswith("}"):
            return inside
    if (part := balanced(text)) is not None:
        return part
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else None
