"""STORAGE_URL: what it may be, and that a wrong one is not repeated."""

from __future__ import annotations

import pytest

from shared.media.location import StorageLocation, parse_storage_url


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("file://.local/storage", StorageLocation("file", ".local/storage")),
        ("file:///var/images", StorageLocation("file", "/var/images")),
        ("gs://my-bucket", StorageLocation("gs", "my-bucket")),
        ("gs://my.bucket_1/a/b/", StorageLocation("gs", "my.bucket_1", "a/b")),
        (
            "gs://bucket?endpoint=http://127.0.0.1:4443/",
            StorageLocation("gs", "bucket", "", "http://127.0.0.1:4443"),
        ),
        (
            "s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu-west-1",
            StorageLocation("s3", "bucket", "prefix", "http://127.0.0.1:9000", "eu-west-1"),
        ),
        ("s3://bucket?region=auto", StorageLocation("s3", "bucket", region="auto")),
    ],
)
def test_valid_urls(url: str, location: StorageLocation) -> None:
    assert parse_storage_url(url) == location


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file://",
        "secret",
        "/secret/path",
        "az://secret",
        "gs://",
        "gs://Secret",
        "gs://secret:key@bucket",
        "s3://bucket/../secret",
        "s3://bucket/a//secret",
        "s3://bucket#secret",
        "s3://bucket?secret",
        "s3://bucket?secret_access_key=secret",
        "gs://bucket?region=secret",
        "s3://bucket?region=a/secret",
        "s3://bucket?endpoint=secret",
        "s3://bucket?endpoint=ftp://secret",
        "s3://bucket?endpoint=http://secret:key@host",
        "s3://bucket?endpoint=http://host/secret",
        "s3://bucket?endpoint=http://[secret",
        "s3://[secret",
    ],
)
def test_an_error_shows_what_is_allowed_and_not_the_url(url: str) -> None:
    """The URL may contain a key."""
    with pytest.raises(ValueError, match="gs://bucket/prefix") as caught:
        parse_storage_url(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
