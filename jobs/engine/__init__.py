"""Stages in, finished work out: plan, submit, work, prove. Knows no recipe and no stage by name."""
