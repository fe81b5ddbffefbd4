"""Files: atomic and durable writing, ownership and locks, and reading text and JSON lines from users."""
