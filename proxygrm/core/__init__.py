"""What every room uses: pairs, images, checkpoints, labels, errors, and files that appear whole or not at all."""
