"""Reading and writing files: tables, schemas, validation, nothing half-written, no pickles."""
