"""What leaves the trail for somebody else to judge."""
