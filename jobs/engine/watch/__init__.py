"""Looking at a run that was submitted: logs, causes of failures, cost, and ending it."""
