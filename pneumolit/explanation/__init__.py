"""From a finished run and the images of one of its splits to heat maps and to what checks say about them."""
