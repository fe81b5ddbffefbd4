"""One file per kind of work: its settings, what runs inside the job, and what the nodes must offer."""
