"""No test depends on how it was started: every run sees the same environment, and so do the processes it starts.

A test that needs a variable sets it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_KEPT = {
    "PATH", "USER", "LOGNAME", "SHELL", "TMPDIR", "LD_LIBRARY_PATH",
    "PYTHONPATH",  # of a checkout that is not installed
    "PROXYGRM_BROWSER",
}  # fmt: skip
_KEPT_PREFIXES = ("PYTEST_XDIST_", "STARTED_WITH_")
# The way to the network, kept aside for what is installed during a run; no test sees it under its own name.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_SET = {
    "HOME": str(ROOT / ".local" / "test-home"),  # caches stay from run to run; nobody's own settings are read
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "OMP_NUM_THREADS": "1",
    # Everybody's checkout may be tested, whoever owns it; git reads this from a home's settings otherwise.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
# Started in the background or under nohup, a process ignores these, and so would its children.
_SIGNALS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGTERM)


def _start_alike() -> None:
    os.environ.update({f"STARTED_WITH_{name}": os.environ[name] for name in _PROXIES if name in os.environ})
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith(_KEPT_PREFIXES):
            del os.environ[name]
    os.environ.update(_SET)
    Path(_SET["HOME"]).mkdir(parents=True, exist_ok=True)
    time.tzset()
    os.umask(0o022)
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


_start_alike()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fewer-packages", action="store_true",
        help="this Python lacks some packages: tests that are marked to need one of them are skipped",
    )  # fmt: skip


def pytest_configure() -> None:
    """Hypothesis fails an example that takes over 0.2 s, and draws that take over a second together: on a busy machine
    any may. Nor does a run begin with what an earlier one has found. The seed is fixed (pyproject.toml), and what is
    drawn with it must not depend on the code that other tests of the process have loaded, where it looks for values."""
    from hypothesis import HealthCheck, settings
    from hypothesis.internal.conjecture import providers

    providers._get_local_constants = lambda: providers._local_constants  # those of no file
    settings.register_profile("suite", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("suite")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("two_users") and "two_users" not in item.config.getoption("-m"):
        pytest.skip("long, and only run when asked for: -m two_users")
    if item.config.getoption("--fewer-packages"):
        for mark in item.iter_markers("needs"):
            if importlib.util.find_spec(mark.args[0]) is None:
                pytest.skip(f"needs {mark.args[0]}, which is not installed for this Python")


@contextmanager
def _same_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    for name in [name for name in os.environ if name not in before]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _nothing_left_in_the_loggers() -> Iterator[None]:
    """A job that a test runs in its own process sends its lines to what was standard output then, which is closed now:
    the next warning would bring an error of logging to standard error."""
    ours = [logging.getLogger(name) for name in ("jobs", "slurm", "proxygrm", "data_tools")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in ours]
    yield
    for logger, (handlers, level, propagate) in zip(ours, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_for_other_modules() -> Iterator[None]:
    """An engine or a cluster that a module's tests share sets variables when it is started, before any of them."""
    with _same_environment():
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """A job that a test runs in its own process marks the environment, handles signals and narrows the umask, an engine
    names the folder of its sockets, and a command turns to the private cluster of this checkout: neither the next test
    nor the processes that it starts see any of it."""
    handlers = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGINT)}
    with _same_environment():
        yield
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:  # None: of C code, which cannot be put back
            signal.signal(number, handler)
    os.umask(0o022)
