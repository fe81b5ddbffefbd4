"""Ensembles of scalar reward models, from their score files."""
