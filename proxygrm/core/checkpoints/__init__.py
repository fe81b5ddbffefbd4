"""Checks of checkpoints: complete, intact, free of code, within their limits."""
