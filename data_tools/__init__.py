"""Preference data in, training data out; one file a source or a step."""
