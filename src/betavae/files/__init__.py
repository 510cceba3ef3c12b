"""Reads and writes files: tables, schemas, validation, atomic writes. Never reads pickles."""
