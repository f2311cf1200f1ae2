"""``python -m gateway.cli`` is ``hugang``."""

from gateway.cli import main

if __name__ == "__main__":
    main()
