"""What verl imports of ours, by name: dataset, agent loop, reward function, sampler; and what they decide with."""
