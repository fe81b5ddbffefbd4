"""What processes need while they run: an end that is heeded, children that end with them, logs, tracking."""
