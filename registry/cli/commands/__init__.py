"""The verbs of the command; a file is imported when its verb is used."""
