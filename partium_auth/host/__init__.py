"""What the app needs to know of the process and the site that it is a guest in."""
