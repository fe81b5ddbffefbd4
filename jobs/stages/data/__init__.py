"""What makes training data: releases, teachers, mixtures, sets."""
