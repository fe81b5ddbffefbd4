"""Who judges: a checkpoint in this process, an endpoint, or the scores of a scalar reward model."""
