"""Access control: keys, callers that need none, limits of connections, and the proof that a server is ours."""
