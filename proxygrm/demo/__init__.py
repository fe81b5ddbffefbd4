"""The demo's small world: drawn images, questions about them, and a model small enough for a laptop."""
