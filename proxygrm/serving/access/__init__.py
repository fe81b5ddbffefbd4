"""Who may call a server, and how a server proves that it is ours."""
