"""The porch: files in, files out."""
