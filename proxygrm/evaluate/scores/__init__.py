"""From judgements to figures, with everything that decides how they were counted."""
