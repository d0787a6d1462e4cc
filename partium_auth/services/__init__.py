"""The only code that changes what is stored: admin, commands, login and a site's own code call it."""
