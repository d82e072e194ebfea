"""Published weights by name: the table of them, and a cache into which they are downloaded."""
