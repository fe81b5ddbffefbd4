"""Ray inside one SLURM allocation with one task a node: plan, addresses, start, readiness, supervision, end."""
