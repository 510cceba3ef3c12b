"""`python -m betavae` is `betavae`."""

from betavae.cli import main

if __name__ == "__main__":
    main()
