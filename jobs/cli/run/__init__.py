"""Commands about one run: plan, submit, ablate, demo, run-stage, and those that look at it."""
