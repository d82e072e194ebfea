"""Preparing data sets before any training: lists of known sets, frames of videos, smaller videos. tools/data/ starts it."""
