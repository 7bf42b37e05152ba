"""From files to batches: reading, records, splits, the store, augmentation."""
