"""Bulk work on one or many machines with Ray: the extra `ray`, see docs/scale.md."""
