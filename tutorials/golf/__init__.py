"""The new kind of run of tutorial 17: an oracle, its options, its kind."""
