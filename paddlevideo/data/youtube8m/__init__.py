"""YouTube-8M frame features: TFRecord files and pickles as a dataset."""
