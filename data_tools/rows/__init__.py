"""Reads rows as tables and blocks that fit into memory."""
