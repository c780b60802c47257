"""python -m example_projects.demo [fastapi|flask|django] [--asgi] [--requests N] [--keep FOLDER]."""

import sys

from example_projects.demo import signals

if __name__ == "__main__":
    signals.install()  # before the long imports

    from example_projects.demo.run import main

    try:
        sys.exit(main(sys.argv[1:]))
    except SystemExit as leaving:
        if isinstance(leaving.code, int) and leaving.code > 128:
            print("\nStopped: the server is down, and its folder is removed.", file=sys.stderr)
        raise
