"""The command line of a rank on another machine: in another folder, or with another version of this package."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    where, *words = sys.argv[1:]
    if where == "version":
        from blackbox_zo.ranks import _words

        vars(_words)["__version__"] = "99.0"
    else:
        os.chdir(where)
    from oracles.cli.main import main

    sys.exit(main(words))
