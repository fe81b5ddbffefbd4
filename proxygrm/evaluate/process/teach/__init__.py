"""A teacher's part in the training data of process reward: what it is asked, and what its answers come to."""
