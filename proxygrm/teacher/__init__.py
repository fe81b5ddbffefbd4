"""Teachers write the critiques that training starts from."""
