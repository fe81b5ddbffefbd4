"""A real Chromium over its debugging pipe (Chrome DevTools Protocol), with the standard library alone."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KEYS = {
    "Enter": 13, "Escape": 27, "Tab": 9, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
READY = "location.protocol === 'file:' && document.readyState === 'complete' && $('#browser')?.hidden === false"


class Chromium:
    """One browser with one tab. `said` collects errors of the console, of scripts and of the page's policy."""

    def __init__(self, profile: Path) -> None:
        environment = {name.removeprefix("STARTED_WITH_"): value for name, value in os.environ.items()}
        found = subprocess.run(
            [ROOT / "requirements" / "browser.sh"], env=environment, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # The browser reads from its descriptor 3 and writes to 4; ours stand higher, so that neither is overwritten, at
        # numbers that are free in this process.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 200) for end in (to_read, to_write)]
        os.close(to_read)
        os.close(to_write)
        with (profile / "browser.log").open("wb") as log:
            self._browser = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]} {ends[0]}<&- {ends[1]}>&-', "-",
                 found.stdout.strip(), *FLAGS, f"--user-data-dir={profile}"],
                pass_fds=ends, stdout=log, stderr=log,
            )  # fmt: skip
        for end in ends:
            os.close(end)
        self._number, self._rest, self._events = 0, b"", deque[dict[str, Any]]()
        self.said: list[str] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._browser.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._browser.wait(60)
        self._browser.kill()
        self._browser.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _message(self, timeout_s: float = 120) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0, until - time.monotonic()))
            data = os.read(self._from, 1 << 20) if ready else b""
            assert data, "the browser does not answer"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._listen(message.get("method", ""), message.get("params", {}))
        return message

    def _listen(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.said.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.said.append(json.dumps(params["args"])[:600])
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
            self.said.append(f"asks for {params['request']['url']}")

    def open(self, url: str) -> None:
        """A fresh document, even when only the part after # differs; returns when the judgements are there."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.wait(READY)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; `$` and `$$` are querySelector and querySelectorAll, as an array."""
        prelude = "const $ = (s) => document.querySelector(s), $$ = (s) => [...document.querySelectorAll(s)];"
        script = f"{{{prelude} {expression}}}"
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, condition: str, timeout_s: float = 120) -> None:
        until = time.monotonic() + timeout_s
        while not self.ask(condition):
            assert time.monotonic() < until, f"never true: {condition}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        code = KEYS[key]
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def choose(self, name: str, value: str) -> None:
        """Set a filter as a person's choice would."""
        self.ask(
            f"const field = $('#filters').elements[{json.dumps(name)}]; field.value = {json.dumps(value)};"
            "field.dispatchEvent(new Event('input', { bubbles: true })); field.value"
        )

    def scheme(self, name: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def image(self, path: Path) -> Path:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path
