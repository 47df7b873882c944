"""The task's life under several clients, against a plain model: long random histories."""
