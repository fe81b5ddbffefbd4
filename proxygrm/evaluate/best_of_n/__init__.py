"""Best of N: candidates ranked by pairwise judgements."""
