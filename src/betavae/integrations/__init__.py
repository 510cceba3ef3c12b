"""Connections to other libraries: each file is the only importer of its library, which is an optional extra."""
