"""Optional compiled code for CPUs; see README.md."""
