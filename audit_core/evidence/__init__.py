"""What leaves the trail for somebody else to judge: tiles, and bundles of events with all that shows them to be in it.

``check`` has nothing in common with what writes a bundle, so that one error is not made twice.
"""
