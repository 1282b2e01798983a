"""The verbs of the command, a file each; imported when the verb is asked for."""
