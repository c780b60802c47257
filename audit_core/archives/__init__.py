"""Months that were moved out of the trail: their form, where they lie, and how they are read."""
