"""Tables: from columns as people hold them to predictions."""

__all__: list[str] = []
