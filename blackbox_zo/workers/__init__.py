"""Work in other processes: supervised workers, programs, executors, and how what is under way is ended."""
