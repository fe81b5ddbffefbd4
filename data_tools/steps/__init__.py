"""How a step over many rows is carried out, and accounts for each of them."""
