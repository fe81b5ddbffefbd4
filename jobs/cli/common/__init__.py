"""Shared by the commands: the console, their options, the plan's table, and how libraries are kept quiet."""
