"""Functions that draw a candidate for people to look at."""
