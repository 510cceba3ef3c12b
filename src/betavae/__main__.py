"""`python -m betavae` is `betavae`."""

from betavae.cli.main import main

if __name__ == "__main__":
    main()
