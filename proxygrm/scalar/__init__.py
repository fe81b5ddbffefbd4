"""Scalar reward models."""
