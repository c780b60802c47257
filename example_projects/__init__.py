"""One small clinic, three times: with FastAPI, with Flask and with Django. And a working day in it: ``demo``."""
