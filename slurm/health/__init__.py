"""Is this site fit (`doctor`), and are these nodes (`preflight`)? Measuring and deciding are kept apart."""
