"""`proxygrm eval ...`: judging, scoring, comparing and reporting; `main.py` puts them together."""
