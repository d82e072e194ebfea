"""Share models on the Hugging Face Hub and on ModelScope."""
