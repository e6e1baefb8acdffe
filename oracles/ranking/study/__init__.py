"""A study: its store, its page, and the oracle that waits for people."""
