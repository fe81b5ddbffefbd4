"""What judges models and policies, and sums it up."""
