"""How long events are kept: months are archived, purged after their time, and held where somebody has to."""
