"""What the doors to other tools share: a space of named parameters, and a search that is asked one point at a time."""
