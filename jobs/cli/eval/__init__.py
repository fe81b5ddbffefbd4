"""`proxygrm eval ...`: judging, scoring, comparing and reporting; `main.py` registers them."""
