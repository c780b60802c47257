"""Reading the trail is itself an event, unless whoever reads has not its key or may not write: an auditor, say."""

NOT_RECORDED = (
    "That the trail was read is not recorded in it: this user does not have its signing key or may not write it, or it "
    "cannot be written now."
)
