"""The app's connection to the site and the process that it runs in."""
