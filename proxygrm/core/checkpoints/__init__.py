"""Checkpoints: whole, loadable without code of their own, within their limits, and not zeros."""
