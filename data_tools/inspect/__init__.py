"""Tells the kind of a data file, checks its rows, counts what is in it, and shows rows."""
