"""What a critique is: its contract, its rubric, the prompts that ask for it, and the texts models learn to write."""
