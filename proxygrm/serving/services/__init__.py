"""The auxiliary servers of an RL job: one contract, and what they share. The proxy is one (`replicas`)."""
