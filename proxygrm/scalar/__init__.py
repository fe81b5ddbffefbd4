"""Scalar reward models: the head, its training by ms-swift, the scores of a trained checkpoint."""
