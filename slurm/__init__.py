"""Everything that depends on a SLURM site: profiles, submission, health, a private local cluster, Ray in a job."""
