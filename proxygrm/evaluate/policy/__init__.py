"""How good policies answer held-out questions: `run` asks and judges, `figures` counts."""
