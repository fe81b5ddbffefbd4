"""Critiques -> training sets; `run.py` puts the parts together."""
