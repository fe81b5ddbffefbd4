"""A front end for programs that are not ours."""
