"""Frame features: a trained recognizer turns videos into shards that a tagger reads."""
