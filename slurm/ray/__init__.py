"""One Ray cluster inside one SLURM allocation: a task a node, no nested srun, nothing left behind."""
