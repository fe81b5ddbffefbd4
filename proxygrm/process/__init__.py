"""Process reward: the steps of a solution, what they claim to see, verdicts, the gate and the score. docs/process.md"""
