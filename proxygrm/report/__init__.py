"""A run as one HTML page that needs no network, and its result table for the terminal. Light imports only."""

from __future__ import annotations

from proxygrm.report.console import result_table
from proxygrm.report.page import write_report

__all__ = ["result_table", "write_report"]
