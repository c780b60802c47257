"""Why the trail can be trusted. Pure: no I/O, no clock, no randomness."""
