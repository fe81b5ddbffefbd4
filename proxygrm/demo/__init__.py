"""The demo's small world: drawn pictures, questions about them, and a model small enough for a laptop."""
