"""Reading the trail is itself an event, unless whoever reads may not write: an auditor with a copy, say."""

NOT_RECORDED = "This user may not write to the trail, so that it was read is not recorded in it."
