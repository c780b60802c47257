"""A working day in a clinic, over real HTTP, and what an auditor then finds in its trail."""
