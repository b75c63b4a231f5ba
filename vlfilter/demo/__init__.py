"""The demo: real images, planted defects, tiny models trained on the spot, an honest table."""
