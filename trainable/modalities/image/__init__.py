"""Images as a modality: their decoding, resizing and augmentation."""
