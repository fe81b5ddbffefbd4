"""What the commands share: the console, their options, and how libraries are kept quiet."""
