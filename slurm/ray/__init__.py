"""One Ray cluster inside one SLURM allocation: one task per node, no nested srun, nothing left behind."""
