"""From a trained model to predictions: export to programs, backends that run them, and the Predictor on top."""
