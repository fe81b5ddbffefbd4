"""What RL rewards, one file each."""
