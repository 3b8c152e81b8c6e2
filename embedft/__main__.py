"""Entry point of ``python -m embedft``."""

from embedft.cli import main

if __name__ == "__main__":
    main()
