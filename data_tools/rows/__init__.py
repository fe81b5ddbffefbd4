"""Rows of the data tools as tables and blocks that fit into memory."""
