"""Mixes pairs folders of several sources into one, by a spec."""
