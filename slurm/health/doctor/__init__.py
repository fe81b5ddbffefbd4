"""Is this site fit, and what to do where not: `proxygrm doctor`."""
