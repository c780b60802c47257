"""Reading the trail is itself an event, unless whoever reads has not its key or may not write: an auditor, say."""


def not_recorded(why: str) -> str:
    """A sentence, of the clause that ``AuditTrail.note_reading`` gives."""
    return f"That the trail was read is not recorded in it: {why}."
