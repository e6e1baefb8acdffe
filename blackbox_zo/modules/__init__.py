"""Torch modules: their parameters as a variable, and two ways to answer queries about them."""
