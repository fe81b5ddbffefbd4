"""Checks of a site and remedies: `proxygrm doctor`."""
