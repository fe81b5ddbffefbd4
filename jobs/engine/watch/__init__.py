"""A run that was submitted: its logs, causes of failures, cost, and cancelling it."""
