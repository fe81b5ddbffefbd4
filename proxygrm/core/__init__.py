"""Shared by every room: pairs, images, checkpoints, labels, settings, errors, and atomic files."""
