"""A trained model becomes a folder of programs that is complete by itself."""
