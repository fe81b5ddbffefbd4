"""A front end for other programs, upstream's included."""
