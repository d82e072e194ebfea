"""Configs of PaddleX: their sections, and their translation into a config of this package."""
