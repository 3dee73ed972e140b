"""Programs for those who work on docpipe; nothing here is part of the package."""
