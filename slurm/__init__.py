"""How a SLURM site is reached: profiles, a private local cluster, Ray inside an allocation."""
