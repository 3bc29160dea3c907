"""``python -m imasks`` is ``imasks``."""

from imasks.cli import main

if __name__ == "__main__":
    main()
