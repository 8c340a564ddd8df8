"""`python run.py` is the console script `quire`: see `python run.py --help`."""

from quire.cli import main

if __name__ == "__main__":
    main()
