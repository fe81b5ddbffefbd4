"""Released preference data -> a pairs folder; `run.py` puts the parts together."""
