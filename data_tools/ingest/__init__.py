"""Released preference data -> a pairs folder; start at `run.py`."""
