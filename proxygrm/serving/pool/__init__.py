"""The proxy's client: one pool over all replicas, with routing, breakers, hedging and counts."""
