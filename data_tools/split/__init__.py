"""Critiques -> training sets; start at `run.py`."""
