"""Imported by verl itself, in every process that imports verl: guards its sockets (`private_sockets`), and lets this
package's log lines through. verl configures no logging, and Python then drops INFO lines."""

import logging

from proxygrm.rl.guards.private_sockets import guard


def log_to_stderr() -> None:
    """INFO lines of this package to stderr, which Ray forwards to the trainer's log. Safe to call again."""
    logger = logging.getLogger("proxygrm")
    if logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # Hydra gives the driver's root logger a handler, too


guard()
log_to_stderr()
