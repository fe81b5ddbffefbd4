"""Checks of a job's nodes before work starts on them."""
