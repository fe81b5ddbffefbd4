"""Rubric transfer: does a rubric help a judge that took no part in training?"""
