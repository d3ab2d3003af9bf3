"""Links to stored images."""

PREFIX = "/image/"


def image_url(name: str, base_url: str) -> str:
    """`base_url`: this server's address; "" gives a path."""
    return base_url + PREFIX + name
