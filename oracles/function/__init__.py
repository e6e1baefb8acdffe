"""Runs over numbers that a Python program began: what their journals tell."""
