"""``python -m imasks.cli`` is ``imasks``."""

from imasks.cli.commands import main

if __name__ == "__main__":
    main()
