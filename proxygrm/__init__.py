"""Proxy-GRM: reward models that write rubrics another judge can use.

Critique contract, prompts, rewards, the proxy judge, training plug-ins, evaluation and report.
Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
