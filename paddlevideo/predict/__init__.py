"""Prediction: files, folders, lists or arrays become classes and scores, with any runtime."""
