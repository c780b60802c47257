"""Serve the clinic with uvicorn."""

import os

import uvicorn

if __name__ == "__main__":
    uvicorn.run("example_projects.fastapi_clinic.app:app", port=int(os.environ.get("PORT", "8000")))
