#!/usr/bin/env python3
"""Makes the goldens: python3 make_goldens.py [FOLDER...]; without a folder, all. See README.md."""

import importlib
import os
import pathlib
import sys

# One order of summation, whatever the machine: set before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

GOLDENS = pathlib.Path(__file__).resolve().parent


def main():
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(GOLDENS))
    makers = sorted(path.parent.name for path in GOLDENS.glob("*/make.py"))
    for name in sys.argv[1:] or makers:
        if name not in makers:
            sys.exit(f"make_goldens.py: there is no {name}/make.py; there are {', '.join(makers)}")
        importlib.import_module(f"{name}.make").make(GOLDENS / name)


if __name__ == "__main__":
    main()
