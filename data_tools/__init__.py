"""Preference data in, training data out; one file per source or step."""
