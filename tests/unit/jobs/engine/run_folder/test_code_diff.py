"""What a run keeps of the code's uncommitted changes: readable, without secrets, and for its user alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobs.engine.run_folder import code_version
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.run_folder.secrecy import masked, masked_words

A40 = "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gH3jK5mN7p"
PEM = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"] * 3 + ["zA9cE1gH3jK5mN7p+/Q="])
PLANTED = {  # name -> (file, line, the secret)
    "OpenAI, legacy": ("a.py", 'client = OpenAI("sk-{}")', f"{A40[:20]}T3BlbkFJ{A40[20:]}"),
    "OpenAI, project": ("a.py", "x = 'sk-proj-{}'", A40),
    "Anthropic": ("a.py", "x = 'sk-ant-api03-{}'", A40),
    "Hugging Face": ("a.py", 'login(token="hf_{}")', A40[:34]),
    "GitHub, classic": ("a.sh", "git clone https://ghp_{}@github.com/x/y", A40[:36]),
    "GitHub, fine": ("a.py", "x = ['github_pat_{}']", "11ABCDEFG0" + A40),
    "GitLab": ("a.yaml", "ci: glpat-{}", A40[:20]),
    "AWS id": ("a.py", "boto3.client(x, 'AKIA{}')", "IOSFODNN7EXAMPLE"),
    "AWS secret": (".env", "AWS_SECRET_ACCESS_KEY={}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "AWS secret in Python": ("a.py", 'aws_secret_access_key = "{}"', "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "AWS credentials": ("credentials", "aws_secret_access_key = {}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "Slack": ("a.py", "post('xoxb-{}')", "123456789012-1234567890123-" + A40[:24]),
    "Slack webhook": (
        "a.py",
        "u = 'https://hooks.slack.com/services/{}'",
        "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    ),
    "Google": ("a.js", "const k = 'AIza{}';", A40[:35]),
    "JWT": ("a.py", "t = '{}'", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"),
    "SwanLab login": ("a.py", 'swanlab.login("{}")', "aB3dE5gH7jK9mN1pQ3sT5"),
    "SwanLab variable": ("a.sh", "export SWANLAB_API_KEY={}", "aB3dE5gH7jK9mN1pQ3sT5"),
    "W&B": ("a.py", 'os.environ["WANDB_API_KEY"] = "{}"', "0123456789abcdef0123456789abcdef01234567"),
    "api_key": ("a.py", 'OpenAI(api_key="{}")', "hunter22"),
    "api_key, single quotes": ("a.py", "OpenAI(api_key = '{}')", "hunter22"),
    "JSON": ("a.json", '  "apiKey": "{}",', "hunter22hunter"),
    "JSON token": ("a.json", '  "access_token": "{}",', "hunter22hunter"),
    "YAML": ("a.yaml", "db_password: {}", "correct-horse-battery"),
    "TOML": ("a.toml", 'password = "{}"', "correct-horse-battery"),
    ".env in lower case": (".env", "db_password={}", "correct-horse-battery"),
    "dictionary": ("a.py", "headers = {{'X-Api-Key': '{}'}}", "hunter22hunter"),
    "Bearer": ("a.py", "h = {{'Authorization': 'Bearer {}'}}", "hunter22hunter"),
    "curl": ("a.sh", "curl -H 'Authorization: Bearer {}' host", "hunter22hunter"),
    "Basic": ("a.sh", "curl -H 'Authorization: Basic {}' host", "dXNlcjpodW50ZXIyMg=="),
    "URL": ("a.py", "u = 'postgresql://me:{}@db:5432/x'", "hunter22"),
    "key in a URL": ("a.py", "get('https://h/v1?api_key={}')", "hunter22"),
    "option": ("a.sh", "vllm serve m --api-key {}", "hunter22hunter"),
    "Stripe": ("a.py", "k = 'sk_live_{}'", A40[:24]),
    "npm": (".npmrc", "//registry.npmjs.org/:_authToken=npm_{}", A40[:36]),
    "PyPI": (".pypirc", "password = pypi-AgEIcHlwaS5vcmc{}", A40 * 2),
    "SendGrid": ("a.py", "k = 'SG.{}'", A40[:22] + "." + A40 + "abc"),
    "Telegram": ("a.py", "k = '123456789:{}'", A40[:35]),
    "Azure": ("a.py", "c = 'AccountKey={}'", A40 * 2 + "abcdef=="),
    "NVIDIA": ("a.py", "k = 'nvapi-{}'", A40),
    "Groq": ("a.py", "k = 'gsk_{}'", A40),
    "Docker": ("a.py", "k = 'dckr_pat_{}'", A40[:27]),
    "netrc": (".netrc", "machine h login me password {}", "hunter22"),
    "random text": ("a.py", 'k = "{}"', A40 + "/+" + A40[::-1]),
    "key in one line": ("a.py", 'k = "-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----"', A40),
}


def diff(file: str, *lines: str) -> str:
    head = f"diff --git a/{file} b/{file}\nindex 9b6dfca31..637e542aa 100644\n--- a/{file}\n+++ b/{file}\n"
    return head + "@@ -1,3 +1,9 @@\n" + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("mark", ["+", "-", " "])
@pytest.mark.parametrize("name", PLANTED)
def test_a_secret_is_left_out_whatever_its_kind_and_whether_it_was_added_removed_or_stayed(
    name: str, mark: str
) -> None:
    file, line, secret = PLANTED[name]
    text, left_out = masked(diff(file, " before()", mark + line.format(secret), "+after()"))
    assert secret not in text
    assert left_out == 1
    assert text == diff(file, " before()", f"{mark}(a line that looks like a secret)", "+after()")


@pytest.mark.parametrize("kind", ["PRIVATE", "RSA PRIVATE", "EC PRIVATE", "OPENSSH PRIVATE", "ENCRYPTED PRIVATE"])
@pytest.mark.parametrize("shown", ["all", "beginning", "end"])
def test_a_private_key_is_left_out_to_its_last_line_however_much_of_it_the_diff_shows(kind: str, shown: str) -> None:
    begin, end = f"-----BEGIN {kind} KEY-----", f"-----END {kind} KEY-----"
    lines = {
        "all": [begin, *PEM.splitlines(), end],
        "beginning": [begin, *PEM.splitlines()],
        "end": [*PEM.splitlines(), end],
    }[shown]
    text, left_out = masked(diff("key", " above", *(f"+{line}" for line in lines)) + diff("x.py", "+after()"))
    assert left_out == len(lines)
    for line in PEM.splitlines():
        assert line not in text
    assert "+after()" in text
    assert " above" in text


def test_a_secret_in_the_name_of_a_file_and_one_deep_in_a_long_line_are_left_out() -> None:
    key = f"hf_{A40[:34]}"
    assert key not in masked(diff(f"notes/{key}.txt", "+x"))[0]
    for before in (10, 3_990, 4_100, 50_000):
        assert key not in masked(diff("rows.jsonl", f"+{'word ' * (before // 5)}{key} {'word ' * 3_000}"))[0]


ORDINARY = r'''
def chosen(found: list[Segment], attempt: int | None) -> list[Segment]:
    """Of each task the given attempt; a password is not asked for, nor a secret token."""
    token = tokenizer.pad_token or "<|endoftext|>"
    api_key = os.environ["OPENAI_API_KEY"]
    password = getpass.getpass()
    headers = {"Authorization": f"Bearer {key}"}
    max_tokens, key = 1024, lambda row: row["tokens"]
    processor = load(tokenizer="Qwen/Qwen2.5-VL-7B-Instruct", tokens="4096")
    commit = "637e542aa5d828d9f81fe1867f3ce59b6dfca31d"
    digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    url = f"https://{host}:{port}/v1?model=big"
    path = "/scratch/lab/runs/h100/grm_rl/checkpoints/global_step_50/actor/model_world_size_8_rank_3.pt"
    raise UserError("the key file is readable by others: chmod 600 it; see docs/security.md#keys")
export HF_TOKEN=$MY_TOKEN
export SWANLAB_API_KEY=$(cat ~/.key)
numpy==2.2.6 --hash=sha256:038613e9fb8c72b0a41f025a7e4c3f0b7a1b5764ece4d776b679708f4e1dba55
import sklearn, risk_of_something_longer_than_that
| `distill.api_key_file` | a 0600 file with the key |
test_a_secret_is_left_out_whatever_its_kind_and_whether_it_was_added_removed_or_stayed
'''


def test_ordinary_code_stays_readable() -> None:
    for file in ("a.py", "README.md"):
        kept = masked(diff(file, *(f"+{line}" for line in ORDINARY.splitlines())))
        assert kept == (diff(file, *(f"+{line}" for line in ORDINARY.splitlines())), 0)


def test_what_is_kept_is_its_users_alone_even_over_a_file_of_an_earlier_version_and_still_applies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, run = tmp_path / "checkout", Ledger(tmp_path / "run")
    checkout.mkdir()

    def git(*words: str) -> str:
        names = ("-c", "user.name=x", "-c", "user.email=x@x")
        return subprocess.run(["git", *names, *words], cwd=checkout, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (checkout / "a.py").write_text("one\ntwo\n")
    git("add", ".")
    git("commit", "-qm", "first")
    (checkout / "a.py").write_text('one\ntwo\nkey = "glpat-aB3dE5gH7jK9mN1pQ3sT"\nthree\n')
    run.folder.mkdir()
    (run.folder / "code.diff").write_text("old")
    (run.folder / "code.diff").chmod(0o644)
    difference = code_version.masked_diff(checkout)
    monkeypatch.setattr(code_version, "masked_diff", lambda: difference)
    assert run.record_run({}, {}, {}, {}) == 1
    kept = run.folder / "code.diff"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert read_json(run.folder / "run.json")["code_diff_lines_left_out"] == 1
    git("checkout", "-q", ".")
    git("apply", str(kept))
    assert (checkout / "a.py").read_text() == "one\ntwo\n(a line that looks like a secret)\nthree\n"


@pytest.mark.parametrize("name", ["OpenAI, project", "Hugging Face", "GitHub, fine", "Bearer", "URL", "key in a URL"])
def test_words_of_a_failure_are_kept_without_the_secret(name: str) -> None:
    _, line, secret = PLANTED[name]
    kept = masked_words(f"HTTPError: 401 from the teacher: {line.format(secret)}; check it")
    assert secret not in kept
    assert kept.startswith("HTTPError: 401 from the teacher: ")
