"""Supervised fine-tuning of the proxy and the reward model with ms-swift."""
