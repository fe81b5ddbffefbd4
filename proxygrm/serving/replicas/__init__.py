"""Replicas of `vllm serve`: command line, placement on GPUs, and the supervision that keeps them running."""
