"""Runs a step over many rows, in shards, and accounts for every row."""
