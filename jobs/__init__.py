"""What runs on the cluster and in which order; read recipes/proxy_grm.py first."""

import os
import sys
from pathlib import Path

# Whoever runs a checkout of somebody else's leaves nothing in it: its owner could not remove what root compiled.
if Path(__file__).stat().st_uid != os.geteuid():
    sys.dont_write_bytecode = True
