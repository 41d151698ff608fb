"""Export of a trained network: training for use, file formats, loading."""
