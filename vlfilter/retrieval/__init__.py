"""Images by likeness: CLIP embeddings of an image set, and the nearest of them to a picture."""
