"""What runs inside a job: one attempt at one element of a stage."""
