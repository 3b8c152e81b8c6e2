"""Entry point of ``python -m embedft``."""

if __name__ == "__main__":  # a process that imports this file again stays light
    from embedft.cli import main

    main()
