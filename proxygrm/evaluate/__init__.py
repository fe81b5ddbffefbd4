"""Judging held-out pairs: a model's critiques and verdicts in both orders, and whether its rubrics transfer.

Importing this package loads neither torch nor vLLM; the functions that run a model do.
"""
