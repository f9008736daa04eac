"""What to do next, as generators that yield effects, and the two drivers that carry them out."""
