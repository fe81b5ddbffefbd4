"""Process reward by models: candidates for questions, and the three-stage score of each of their steps."""
