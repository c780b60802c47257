"""Serve the clinic with uvicorn."""

import os

import uvicorn

if __name__ == "__main__":
    # h11 has a limit for headers, whatever other parsers are installed.
    uvicorn.run("example_projects.fastapi_clinic.app:app", port=int(os.environ.get("PORT", "8000")), http="h11")
