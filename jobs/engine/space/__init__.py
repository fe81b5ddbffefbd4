"""The space a run takes: a forecast before it, and what can be removed after it."""
