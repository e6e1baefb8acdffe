"""Work in other processes: supervised workers, programs and executors, and how to cancel running calls."""
