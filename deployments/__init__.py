"""Work pools and deployments as code; `make deploy` applies them and may be run again at any time."""
