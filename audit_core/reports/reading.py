"""Reading the trail is itself an event, unless whoever reads may not write: an auditor with a copy, say."""

NOT_RECORDED = "That the trail was read is not recorded in it: this user may not write it, or it cannot be written now."
