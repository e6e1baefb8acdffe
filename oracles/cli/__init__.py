"""The command line, `blackbox-zo`."""
