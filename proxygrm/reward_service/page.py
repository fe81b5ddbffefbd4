"""The page at `/`: one static file that asks only the server it came from."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

PAGE = files(__package__).joinpath("page.html").read_text(encoding="utf-8")


def _hash_of(tag: str) -> str:
    """For the policy: what is between the tags, and nothing else of its kind, may be used."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    assert found is not None, f"the page has no <{tag}>"
    return "'sha256-" + base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode() + "'"


POLICY = (
    f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page."""
