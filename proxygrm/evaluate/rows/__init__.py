"""Rows that evaluation reads and writes: pairs, ordered pairs, judgements, answers of other suites."""
