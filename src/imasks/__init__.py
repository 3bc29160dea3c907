"""Semi-supervised image segmentation with Inconsistency Masks."""
