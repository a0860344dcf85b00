"""The study: one person's annotation."""
