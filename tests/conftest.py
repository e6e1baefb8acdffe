"""For all tests: Ctrl-C reaches the programs they start, also where a shell runs them in the background."""

import signal

from .disks import failing_disk as failing_disk

signal.signal(signal.SIGINT, signal.default_int_handler)  # such a shell has it ignored, and children inherit that
