"""Training objectives. `api` defines their interface, and `registry` lists them by name."""
