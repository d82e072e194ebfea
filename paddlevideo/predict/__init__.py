"""Files, folders, lists or arrays become labels, with any runtime."""
