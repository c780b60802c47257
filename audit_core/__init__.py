"""Compliance audit trails: who did what to which resource, when, from where and with what outcome."""

from audit_core.chain import AuditChain
from audit_core.chain.verification import Verification
from audit_core.context import add_details, set_actor, set_outcome
from audit_core.errors import AuditError
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.integrity.note import Signer, VerifierKey
from audit_core.policy import AuditPolicy, AuditRule, audited
from audit_core.redaction import Redactor
from audit_core.stores import AuditStore
from audit_core.stores.s3 import S3AuditStore
from audit_core.trail import AuditTrail

__all__ = [
    "ActorType",
    "AuditChain",
    "AuditError",
    "AuditEvent",
    "AuditPolicy",
    "AuditRule",
    "AuditStore",
    "AuditTrail",
    "Outcome",
    "Redactor",
    "S3AuditStore",
    "Signer",
    "Verification",
    "VerifierKey",
    "add_details",
    "audited",
    "set_actor",
    "set_outcome",
]
