"""Every table for the terminal."""
