"""Read a YAML file into a checked, typed config; every value knows its file and line."""
