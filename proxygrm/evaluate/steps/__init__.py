"""Benchmarks whose unit is a step of a solution: reading them, judging them, scoring the verdicts."""
