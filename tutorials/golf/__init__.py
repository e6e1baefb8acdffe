"""A kind of run of one's own, as tutorial 17 shows it: an oracle, its options, its kind."""
