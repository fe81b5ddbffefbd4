"""Rows that evaluation reads and writes: pairs, what a judge is shown, judgements, answers of other suites."""
