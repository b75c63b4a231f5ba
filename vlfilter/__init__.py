"""vlfilter: score, select and reshard the data that multimodal models learn from."""

__version__ = "0.1.0"
