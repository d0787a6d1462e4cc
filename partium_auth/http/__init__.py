"""HTTP to Partium and to identity providers, on top of ``requests``. No Django."""
