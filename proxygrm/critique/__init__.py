"""Critiques: their contract, their rubric, the prompts for them, and the texts that models learn to write."""
