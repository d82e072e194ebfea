"""Exporting: a trained model becomes a folder of programs that run without its Python code."""
