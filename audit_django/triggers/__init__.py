"""Django beside triggers (PostgreSQL): they tell of their tables' rows, and are told who acts.

``AUDIT = {"TRIGGERS": True}``. Which models are left to them is asked of the database (``coverage.py``); who acts goes
along with the first statement of a transaction that may write, whoever runs it: the ORM or a cursor (``saying.py``).
"""
