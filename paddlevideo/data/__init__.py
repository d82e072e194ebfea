"""What a training reads: lists, datasets, sampling, transforms, pipelines, batches."""
