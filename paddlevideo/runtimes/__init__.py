"""What runs an exported program or a built model: one file per runtime, one small base, the choice between them."""
