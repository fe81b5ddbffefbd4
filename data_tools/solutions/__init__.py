"""VisualPRM400K as released -> a solutions folder (`proxygrm.process.solutions`); start at `run.py`."""
