"""Replicas of `vllm serve`: their command line, their place, and the supervision that keeps them up."""
