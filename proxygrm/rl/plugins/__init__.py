"""The plug-ins that verl imports by name (dataset, agent loop, reward function, sampler) and what they use."""
