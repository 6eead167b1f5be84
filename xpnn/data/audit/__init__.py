"""A table looked over before training: its columns, its target, its rows, and a test table beside it."""

from .findings import Audit, AuditFinding, leaks
from .table import audit

__all__ = ["Audit", "AuditFinding", "audit", "leaks"]
