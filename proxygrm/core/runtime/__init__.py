"""What processes need while they run: handling of signals, child processes, logs, tracking."""
