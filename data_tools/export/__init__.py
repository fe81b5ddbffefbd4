"""Pairs -> files for trainers and other suites; start at `convert.py`."""
