from .funnel import FunnelRow
from .rooms import AuditBounds, audit_rooms

__all__ = [
    "AuditBounds",
    "FunnelRow",
    "audit_rooms",
]
