"""What a scalar reward model is made of."""

ACTIVATIONS = ("none", "tanh", "silu")
"""Between the layers of the head."""
