"""Teachers: whoever writes the critiques that training starts from."""
