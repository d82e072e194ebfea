"""A YAML file becomes a checked, typed config: every value knows its file and line, every name is looked up once."""
