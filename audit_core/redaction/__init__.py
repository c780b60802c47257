"""What never entered cannot leak: secrets are taken out of an event before anything is hashed."""

from audit_core.redaction.declared import Rule, redacted
from audit_core.redaction.redactor import Redactor
from audit_core.redaction.rules import MASK, REDACTED

__all__ = ["MASK", "REDACTED", "Redactor", "Rule", "redacted"]
