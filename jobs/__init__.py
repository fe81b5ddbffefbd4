"""What runs on the cluster and in which order; read chain.py first."""
