"""Views of a whole cache: the HTML page, and the frame of `registry watch`."""
