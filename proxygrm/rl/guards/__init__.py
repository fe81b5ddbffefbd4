"""Guards that keep other users of a node out of verl's and vLLM's sockets and files."""
