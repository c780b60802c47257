"""Serve the clinic with waitress, which stops in order on Ctrl-C; so do we on SIGTERM."""

import os
import signal
import sys

import waitress

from example_projects.flask_clinic.app import open_clinic

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    waitress.serve(open_clinic(), host="127.0.0.1", port=os.environ.get("PORT", "8000"), threads=8)
