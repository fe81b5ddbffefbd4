"""Pairs -> what trainers and other suites read; `convert.py` puts the parts together."""
