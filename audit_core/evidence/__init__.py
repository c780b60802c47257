"""A bundle of evidence: events with all that shows them to be in a signed trail, for somebody without the database.

``check`` has nothing in common with what writes a bundle, so that one error is not made twice.
"""
