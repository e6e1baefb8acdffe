"""Runs over numbers that a Python program started, read from their journals."""
