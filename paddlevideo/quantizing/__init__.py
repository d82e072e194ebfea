"""Quantizing: an exported model gets a program that computes in int8."""
