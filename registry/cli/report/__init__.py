"""What the command shows of a whole cache: the HTML page, and the frame of `registry watch`."""
