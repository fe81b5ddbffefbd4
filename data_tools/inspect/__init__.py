"""What a file of this field is, whether its rows are in order, what is in it, and how it looks."""
