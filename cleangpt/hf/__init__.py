"""Models in Hugging Face's format, in and out: found or fetched (hub), read and written (folder), and what their
configurations (architecture), tensors (tensors) and tokenizers (tokens) are called there and here."""
