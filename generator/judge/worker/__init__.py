"""The untrusted side: holds the submission, no test, no expected value."""
