"""docpipe reads a folder of PDFs and images with a language model and reports the risks it finds."""

__version__ = "0.1.0"
