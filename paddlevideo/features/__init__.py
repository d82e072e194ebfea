"""A recognizer turns videos into frame features in shards, for models that classify those."""
