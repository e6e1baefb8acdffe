"""Argument types for argparse."""

from __future__ import annotations

import argparse

__all__ = ["count", "positive", "seconds", "whole"]


def whole(text: str) -> int:
    """A whole number of at least 1."""
    return _number(text, 1)


def count(text: str) -> int:
    """A whole number, 0 or more."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return number


def positive(text: str) -> float:
    """A positive, finite number."""
    return _positive(text, "number")


def seconds(text: str) -> float:
    """A positive, finite number of seconds."""
    return _positive(text, "number of seconds")


def _positive(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive {what}, got {text!r}")
    return number
