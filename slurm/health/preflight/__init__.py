"""Are these nodes fit, before work starts on them?"""
